//! Query strings: `page=2&token=x` → `page=REDACTED&token=REDACTED`, as the semantic conventions write it (`url.query`).

const REDACTED: &str = "REDACTED";
/// More parameters say no more.
const PARAMETERS_MAX: usize = 64;
/// Longer ones without a value are hardly names …
const UNVALUED_NAME_BYTES_MAX: usize = 16;
/// … and longer ones with a value neither.
const NAME_BYTES_MAX: usize = 64;

/// The names of the parameters, and the values of those that may be told. What is no name is masked, too: whole tokens are
/// sent as `?TOKEN`.
pub(super) fn masked(query: &str, told: &[String]) -> String {
    let mut out = String::with_capacity(query.len() + REDACTED.len());
    let is_alone = !query.contains(['&', ';']);
    for (number, parameter) in query.split(['&', ';']).enumerate() {
        if number > 0 {
            out.push('&');
        }
        if number >= PARAMETERS_MAX {
            out.push('…');
            break;
        }
        put(&mut out, parameter, is_alone, told);
    }
    out
}

fn put(out: &mut String, parameter: &str, is_alone: bool, told: &[String]) {
    let named = parameter.split_once('=');
    let name = named.map_or(parameter, |(name, _)| name);
    match named {
        _ if told.iter().any(|told| told == name) => out.push_str(parameter),
        Some((name, value)) if is_name(name) && !is_padding(name, value, is_alone) => {
            out.push_str(name);
            out.push('=');
            out.push_str(if value.is_empty() { "" } else { REDACTED });
        }
        None if parameter.is_empty() => {}
        _ => out.push_str(REDACTED),
    }
}

/// What looks like a name without a value may be a token in base64, which ends like that.
fn is_padding(name: &str, value: &str, is_alone: bool) -> bool {
    value == "=" || (value.is_empty() && (is_alone || name.len() > UNVALUED_NAME_BYTES_MAX))
}

fn is_name(name: &str) -> bool {
    let is_usual = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'[' | b']' | b'$')
    };
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_only_where_they_may_be() {
        let told = ["page".to_owned()];
        for (query, shown) in [
            ("page=2&token=s3cret", "page=2&token=REDACTED"),
            ("s3cret", "REDACTED"),
            ("c2VjcmV0=", "REDACTED"),
            ("a=1&c2VjcmV0==", "a=REDACTED&REDACTED"),
            ("a=1&c2VjcmV0VG9rZW4xMjM=", "a=REDACTED&REDACTED"),
            ("debug=&a=s3cret", "debug=&a=REDACTED"),
            ("me@example.org=1", "REDACTED"),
            ("a[]=s3cret&a[]=2;b=3", "a[]=REDACTED&a[]=REDACTED&b=REDACTED"),
            ("page=2=3", "page=2=3"),
            ("Page=2", "Page=REDACTED"),
            ("a=s3cret=b&&", "a=REDACTED&&"),
            ("=s3cret", "REDACTED"),
        ] {
            assert_eq!(masked(query, &told), shown, "{query}");
        }
        let many = "a=1&".repeat(100);
        assert!(masked(&many, &told).ends_with("&…"));
    }
}
