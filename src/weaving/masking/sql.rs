//! SQL without its literals: `WHERE name = 'bob' AND n > 5` → `WHERE name = ? AND n > ?`.
//!
//! No parser: a scanner that knows what can be a literal in any of the dialects. Texts come cut at some length, so an
//! open literal goes to the end. Where dialects or their settings differ (`\'`) the rest is cut rather than guessed.

/// Whose SQL it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::weaving) enum Dialect {
    /// `"` quotes texts, `#` begins a comment.
    MySql,
    /// `"` quotes names; dollar quotes.
    PostgreSql,
    /// `"` quotes names; `q'[…]'`.
    Oracle,
}

/// What a statement begins with, so that a text is known to be one. `SET` is not among them: its values may be bare words.
const BEGINNINGS: [&str; 35] = [
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "REPLACE",
    "MERGE",
    "WITH",
    "VALUES",
    "TABLE",
    "CALL",
    "EXEC",
    "EXECUTE",
    "EXPLAIN",
    "DESCRIBE",
    "DESC",
    "SHOW",
    "USE",
    "BEGIN",
    "START",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT",
    "RELEASE",
    "CREATE",
    "DROP",
    "ALTER",
    "TRUNCATE",
    "RENAME",
    "ANALYZE",
    "OPTIMIZE",
    "LOCK",
    "UNLOCK",
    "FETCH",
    "CLOSE",
    "VACUUM",
];

/// Longer statements are cut.
const BYTES_MAX: usize = 4096;

/// The statement without literals and comments; `None` when it does not begin as one.
pub(in crate::weaving) fn masked(sql: &str, dialect: Dialect) -> Option<String> {
    let out = String::with_capacity(sql.len().min(BYTES_MAX));
    let mut scan = Scan { rest: sql, dialect, out, is_identified: false, is_alteration: None };
    scan.skip_blanks_and_comments();
    if !scan.is_beginning() {
        return None;
    }
    while scan.step() {}
    let out = scan.out.trim_end();
    Some(out.to_owned())
}

struct Scan<'a> {
    rest: &'a str,
    dialect: Dialect,
    out: String,
    /// The word before was IDENTIFIED, or AUTHENTICATED.
    is_identified: bool,
    /// The statement begins with ALTER; `None` before its first word.
    is_alteration: Option<bool>,
}

impl Scan<'_> {
    fn is_beginning(&self) -> bool {
        let first = self.rest.trim_start_matches(['(', ' ']);
        let first = first.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
        BEGINNINGS.iter().any(|name| first.eq_ignore_ascii_case(name))
    }

    /// What follows is not told; always false.
    fn cut(&mut self) -> bool {
        self.rest = "";
        self.out.push_str(" …");
        false
    }

    /// One token further; false at the end.
    fn step(&mut self) -> bool {
        let Some(first) = self.rest.chars().next() else { return false };
        if self.out.len() >= BYTES_MAX {
            self.out.push('…');
            return false;
        }
        match first {
            _ if first.is_whitespace() || self.is_comment() => {
                self.skip_blanks_and_comments();
                if !self.out.is_empty() && !self.rest.is_empty() {
                    self.out.push(' ');
                }
            }
            ';' => return self.next_statement(),
            '\'' => return self.literal('\''),
            '"' if self.dialect == Dialect::MySql => return self.literal('"'),
            '"' | '`' => self.quoted_name(first),
            '$' => self.dollar(),
            '0'..='9' => self.number(),
            _ if is_word(first) => return self.word(),
            // Of what JSON, arrays and vectors are written with, only the quotes matter.
            _ => self.keep(first.len_utf8()),
        }
        true
    }

    fn keep(&mut self, bytes: usize) {
        let (kept, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.out.push_str(kept);
        self.rest = rest;
    }

    fn drop(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn is_comment(&self) -> bool {
        self.rest.starts_with("/*")
            || self.rest.starts_with("--")
            || (self.dialect == Dialect::MySql && self.rest.starts_with('#'))
    }

    /// Comments may hold anything, names of users too.
    fn skip_blanks_and_comments(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            if !self.is_comment() {
                return;
            }
            if self.rest.starts_with("/*") {
                self.skip_block();
            } else {
                let end = self.rest.find('\n').map(|at| at + 1);
                self.rest = end.and_then(|end| self.rest.get(end..)).unwrap_or_default();
            }
        }
    }

    /// PostgreSQL's comments nest.
    fn skip_block(&mut self) {
        let mut depth = 0_u32;
        loop {
            let Some(at) = self.rest.find(['/', '*']) else {
                self.rest = "";
                return;
            };
            self.drop(at);
            let step = if self.rest.starts_with("/*") {
                depth += u32::from(depth == 0 || self.dialect == Dialect::PostgreSql);
                2
            } else if self.rest.starts_with("*/") {
                depth -= 1;
                2
            } else {
                1
            };
            self.drop(step);
            if depth == 0 {
                return;
            }
        }
    }

    /// Of several statements each must be known by its beginning.
    fn next_statement(&mut self) -> bool {
        self.keep(1);
        self.skip_blanks_and_comments();
        self.is_alteration = None;
        if self.rest.is_empty() {
            return false;
        }
        if !self.rest.starts_with(';') && !self.is_beginning() {
            return self.cut();
        }
        self.out.push(' ');
        true
    }

    /// A quoted literal; false when the rest can't be told apart from it.
    fn literal(&mut self, quote: char) -> bool {
        self.placeholder();
        self.drop(1);
        loop {
            let Some(end) = self.rest.find(quote) else {
                self.rest = "";
                return true;
            };
            // Either an escaped quote, or a literal that ends in a backslash.
            let is_escaped = self.rest.get(..end).is_some_and(|before| before.ends_with('\\'));
            self.drop(end + 1);
            if is_escaped {
                return self.cut();
            }
            if !self.rest.starts_with(quote) {
                return true;
            }
            self.drop(1);
        }
    }

    /// A name in `"` or backquotes; an open one was cut.
    fn quoted_name(&mut self, quote: char) {
        let body = self.rest.get(1..).unwrap_or_default();
        if let Some(end) = body.find(quote) {
            self.keep(end + 2);
        } else {
            self.out.push('…');
            self.rest = "";
        }
    }

    /// `$1` stays; `$$text$$` and `$tag$text$tag$` do not.
    fn dollar(&mut self) {
        let body = self.rest.get(1..).unwrap_or_default();
        let tag = body.find(|c: char| !is_word(c)).unwrap_or(body.len());
        let is_quote = body.get(tag..).is_some_and(|rest| rest.starts_with('$'))
            && !body.starts_with(|first: char| first.is_ascii_digit());
        if !is_quote {
            return self.keep(1 + tag);
        }
        let delimiter = self.rest.get(..tag + 2).unwrap_or_default();
        let body = self.rest.get(tag + 2..).unwrap_or_default();
        let end = body.find(delimiter).map(|end| end + delimiter.len());
        self.placeholder();
        self.rest = end.and_then(|end| body.get(end..)).unwrap_or_default();
    }

    /// Digits and all that can belong to them: 0xff, 1.5e-3, 7L.
    fn number(&mut self) {
        self.placeholder();
        let mut end = 0;
        let mut last = ' ';
        for c in self.rest.chars() {
            let is_sign = matches!(c, '+' | '-') && matches!(last, 'e' | 'E');
            if !is_word(c) && c != '.' && !is_sign {
                break;
            }
            end += c.len_utf8();
            last = c;
        }
        self.drop(end);
    }

    /// A keyword, a name, or what stands before a literal: N'…', E'…', x'…', q'[…]', _utf8'…'. False where the rest can't
    /// be told apart from a literal.
    fn word(&mut self) -> bool {
        let end = self.rest.find(|c: char| !is_word(c) && c != '$').unwrap_or(self.rest.len());
        let word = self.rest.get(..end).unwrap_or_default();
        let is_quoted = self.rest.get(end..).is_some_and(|rest| rest.starts_with('\''));
        let has_own_quotes = matches!(word, "q" | "Q" | "nq" | "NQ" | "Nq" | "nQ");
        if is_quoted && has_own_quotes && self.dialect == Dialect::Oracle {
            self.drop(end + 1);
            self.own_quotes();
            return true;
        }
        if is_quoted && word.len() <= 8 {
            self.drop(end);
            return self.literal('\'');
        }
        let is = |name: &str| word.eq_ignore_ascii_case(name);
        // A password may be a bare word, or one in the quotes of names, and so may what is set.
        let is_before_bare = (self.is_identified && is("BY"))
            || (*self.is_alteration.get_or_insert(is("ALTER")) && is("SET"));
        self.is_identified = is("IDENTIFIED") || is("AUTHENTICATED");
        self.keep(end);
        if is_before_bare { self.cut() } else { true }
    }

    /// `q'[…]'` and its like: ends with the closing delimiter and a quote.
    fn own_quotes(&mut self) {
        self.placeholder();
        let opening = self.rest.chars().next().unwrap_or('\'');
        let closing = match opening {
            '[' => ']',
            '(' => ')',
            '{' => '}',
            '<' => '>',
            other => other,
        };
        let body = self.rest.get(opening.len_utf8()..).unwrap_or_default();
        let end = body.find(&format!("{closing}'"));
        self.rest =
            end.and_then(|end| body.get(end + closing.len_utf8() + 1..)).unwrap_or_default();
    }

    fn placeholder(&mut self) {
        self.out.push('?');
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(dialect: Dialect, cases: &[(&str, Option<&str>)]) {
        for (sql, shown) in cases {
            assert_eq!(masked(sql, dialect).as_deref(), *shown, "{sql}");
        }
    }

    #[test]
    fn literals_become_question_marks_in_every_dialect() {
        for dialect in [Dialect::MySql, Dialect::PostgreSql, Dialect::Oracle] {
            check(
                dialect,
                &[
                    (
                        "SELECT a1 FROM t2 WHERE b = 'it''s' AND c > 5",
                        Some("SELECT a1 FROM t2 WHERE b = ? AND c > ?"),
                    ),
                    (
                        "insert into t(a) values (1, -2.5e-3, 0xff, .5)",
                        Some("insert into t(a) values (?, -?, ?, .?)"),
                    ),
                    (
                        "SELECT t1.a5, a.b, `x y`.c FROM t",
                        Some("SELECT t1.a5, a.b, `x y`.c FROM t"),
                    ),
                    ("SELECT 'cut off", Some("SELECT ?")),
                    ("SELECT N's3cret', x'00ff', _utf8'a'", Some("SELECT ?, ?, ?")),
                    ("/* s3cret */ SELECT /* s3cret */ 1 -- s3cret", Some("SELECT ?")),
                    ("(SELECT 1) UNION (SELECT 2)", Some("(SELECT ?) UNION (SELECT ?)")),
                    ("SELECT a /* cut off", Some("SELECT a")),
                    ("SELECT 'a\\' , 's3cret'", Some("SELECT ? …")),
                    ("SELECT\n\ta\n FROM   t", Some("SELECT a FROM t")),
                    ("SELECT 'é', ü FROM t", Some("SELECT ?, ü FROM t")),
                    ("COMMIT", Some("COMMIT")),
                    (
                        "ALTER USER scott IDENTIFIED BY \"S3cret!\"",
                        Some("ALTER USER scott IDENTIFIED BY …"),
                    ),
                    ("alter role app set app.token = s3cret", Some("alter role app set …")),
                    (
                        "ALTER SYSTEM FLUSH; ALTER DATABASE d SET app.jwt TO \"s3cret\"",
                        Some("ALTER SYSTEM FLUSH; ALTER DATABASE d SET …"),
                    ),
                    ("UPDATE t SET a = b", Some("UPDATE t SET a = b")),
                    ("ADMINISTER x AUTHENTICATED BY \"s3cret\"", None),
                    (
                        "ALTER SYSTEM OPEN WALLET AUTHENTICATED BY \"s3cret\"",
                        Some("ALTER SYSTEM OPEN WALLET AUTHENTICATED BY …"),
                    ),
                    ("create user a identified by s3cret", Some("create user a identified by …")),
                    ("SELECT 1; SET x = s3cret", Some("SELECT ?; …")),
                    ("BEGIN; /* a */ SELECT 1;", Some("BEGIN; SELECT ?;")),
                    ("SET password = s3cret", None),
                    ("s3cret", None),
                    ("", None),
                ],
            );
        }
    }

    #[test]
    fn dialects_quote_in_their_own_ways() {
        check(
            Dialect::MySql,
            &[
                ("SELECT \"s3cret\", 'a' # s3cret\n FROM t", Some("SELECT ?, ? FROM t")),
                ("SELECT \"a\"\"b\" FROM t", Some("SELECT ? FROM t")),
            ],
        );
        check(
            Dialect::PostgreSql,
            &[
                (
                    "SELECT \"Name\" FROM t WHERE a = $1 AND b = $x$s3'cret$x$",
                    Some("SELECT \"Name\" FROM t WHERE a = $1 AND b = ?"),
                ),
                ("SELECT $$s3cret$$ , E's3cret'", Some("SELECT ? , ?")),
                ("SELECT $$s3cret", Some("SELECT ?")),
                ("SELECT /* a /* b */ s3cret */ 1", Some("SELECT ?")),
                ("SELECT a #> '{s3cret}' FROM t", Some("SELECT a #> ? FROM t")),
            ],
        );
        check(
            Dialect::Oracle,
            &[
                (
                    "SELECT q'[s3'cret]', \"N\" FROM dual WHERE a = :b",
                    Some("SELECT ?, \"N\" FROM dual WHERE a = :b"),
                ),
                ("SELECT Q'!s3cret", Some("SELECT ?")),
            ],
        );
    }

    proptest! {
        #[test]
        fn no_quoted_text_comes_through(
            before in "[a-z =(,]{0,12}",
            secret in "[A-Z]{6,12}",
            after in "[a-z =(),]{0,12}",
            cut in 0..80_usize,
        ) {
            for dialect in [Dialect::MySql, Dialect::PostgreSql, Dialect::Oracle] {
                let sql = format!("select {before}'{secret}'{after} '{secret}' {before}");
                let sql = sql.get(..cut.max(7)).unwrap_or(&sql);
                let shown = masked(sql, dialect).unwrap_or_default();
                // Whole or in part: no two letters of it.
                prop_assert!(!shown.bytes().any(|byte| byte.is_ascii_uppercase()), "{} -> {}", sql, shown);
            }
        }

        #[test]
        fn any_text_is_taken(sql in "(select )?\\PC{0,60}") {
            for dialect in [Dialect::MySql, Dialect::PostgreSql, Dialect::Oracle] {
                let shown = masked(&sql, dialect);
                prop_assert!(shown.is_none_or(|shown| shown.len() <= sql.len() * 4 + 8));
            }
        }
    }
}
