//! What an SQL text does, and to what.

/// What can be said of an SQL text without saying what is in it.
pub(super) struct Statement<'a> {
    pub(super) operation: Option<&'static str>,
    pub(super) table: Option<&'a str>,
}

impl<'a> Statement<'a> {
    /// The operation is one of a closed set; the table is looked for in what is left without literals.
    pub(super) fn of(sql: &'a str, masked: Option<&'a str>) -> Self {
        const OPERATIONS: [&str; 18] = [
            "SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE", "DROP", "ALTER",
            "TRUNCATE", "BEGIN", "COMMIT", "ROLLBACK", "SET", "SHOW", "CALL", "MERGE", "EXPLAIN",
            "USE",
        ];
        let mut words = masked.unwrap_or(sql).split_ascii_whitespace();
        let first = words.next().unwrap_or_default().trim_end_matches(';');
        let operation = OPERATIONS.into_iter().find(|name| first.eq_ignore_ascii_case(name));
        let before_table = match operation {
            Some("SELECT" | "DELETE") => "FROM",
            Some("INSERT" | "REPLACE" | "MERGE") => "INTO",
            Some("UPDATE") => "",
            _ => return Self { operation, table: None },
        };
        if masked.is_none() {
            return Self { operation, table: None };
        }
        if !before_table.is_empty() {
            words.find(|word| word.eq_ignore_ascii_case(before_table));
        }
        let table = words.next().unwrap_or_default();
        let table = table.split(['(', ';', ',']).next().unwrap_or_default();
        let table = table.trim_matches(['`', '"']);
        let is_name = !table.is_empty()
            && table.len() <= 64
            && table.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'`' | b'"'))
            && !table.starts_with(|first: char| first.is_ascii_digit());
        Self { operation, table: is_name.then_some(table) }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'$')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weaving::masking::{Dialect, masked_sql};

    #[test]
    fn sql_says_operation_and_table_and_nothing_more() {
        let check = |sql, operation, table| {
            let masked = masked_sql(sql, Dialect::PostgreSql);
            let statement = Statement::of(sql, masked.as_deref());
            assert_eq!((statement.operation, statement.table), (operation, table), "{sql}");
        };
        check("SELECT * FROM `users` WHERE name = 'bob'", Some("SELECT"), Some("users"));
        check("insert into orders(id) values (1)", Some("INSERT"), Some("orders"));
        check("UPDATE shop.stock SET n = 1", Some("UPDATE"), Some("shop.stock"));
        check("DELETE FROM t;", Some("DELETE"), Some("t"));
        check("SELECT 'FROM secret'", Some("SELECT"), None);
        check("SELECT audit('transfer from DE8937 to x')", Some("SELECT"), None);
        check("SELECT /* from alice */ 1", Some("SELECT"), None);
        check("SELECT (SELECT 1)", Some("SELECT"), None);
        check("4711 secret", None, None);
        check("", None, None);
    }
}
