//! Commands of Redis and memcached: `SET user:42 secret` → `SET ? ?`.

/// More arguments say no more.
const ARGUMENTS_MAX: usize = 8;
/// Redis' longest command has 24 letters.
const NAME_BYTES_MAX: usize = 32;

/// The command, and how many arguments it has; `None` when it does not begin with a command's name.
pub(super) fn masked(command: &str) -> Option<String> {
    let mut words = command.split_ascii_whitespace();
    let name = words.next().filter(|name| is_name(name))?;
    let arguments = words.count();
    let mut out = name.to_owned();
    for _ in 0..arguments.min(ARGUMENTS_MAX) {
        out.push_str(" ?");
    }
    if arguments > ARGUMENTS_MAX {
        out.push_str(" …");
    }
    Some(out)
}

/// Also of modules: `FT.SEARCH`, `JSON.SET`.
pub(in crate::weaving) fn is_name(word: &str) -> bool {
    word.len() <= NAME_BYTES_MAX
        && word.starts_with(|first: char| first.is_ascii_alphabetic())
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_counted_not_told() {
        for (command, shown) in [
            ("PING", Some("PING")),
            ("SET user:42 secret", Some("SET ? ?")),
            ("  get  a  ", Some("get ?")),
            ("FT.SEARCH idx secret", Some("FT.SEARCH ? ?")),
            ("MSET a b c d e f g h i j", Some("MSET ? ? ? ? ? ? ? ? …")),
            ("secret:42 GET", None),
            ("42", None),
            ("\"SET\" a", None),
            ("", None),
        ] {
            assert_eq!(masked(command).as_deref(), shown, "{command}");
        }
    }
}
