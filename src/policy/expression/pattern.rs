//! Patterns that Postgres takes without fail: a faulty one raises only where a
//! row reaches it, and so would tell of rows.

/// LIKE: an escape needs something to escape.
pub(super) fn like(pattern: &str) -> Result<(), String> {
    let mut chars = pattern.chars();
    while let Some(char) = chars.next() {
        if char == '\\' && chars.next().is_none() {
            return Err("a LIKE pattern does not end in a backslash".into());
        }
    }
    Ok(())
}

/// The everyday part of Postgres's regular expressions: no back references, no
/// look-around, no directors.
///
/// Source: <https://www.postgresql.org/docs/current/functions-matching.html#POSIX-SYNTAX-DETAILS>
pub(super) fn regular(pattern: &str) -> Result<(), String> {
    let fault = |what: &str| Err(format!("regular expression `{pattern}`: {what}"));
    if pattern.is_empty() || pattern.len() > 200 {
        return fault("of 1 to 200 bytes");
    }
    let mut chars = pattern.chars().peekable();
    let mut depth = 0u32;
    // Whether a quantifier may follow.
    let mut atom = false;
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next() {
                Some('d' | 'w' | 's' | 'D' | 'W' | 'S') => atom = true,
                Some('m' | 'M' | 'y' | 'Y') => atom = false,
                Some(escaped) if escaped.is_ascii_punctuation() => atom = true,
                _ => return fault("an escape that is not served"),
            },
            '(' => {
                if chars.peek() == Some(&'?') {
                    chars.next();
                    if chars.next() != Some(':') {
                        return fault("(?…) other than (?:…) is not served");
                    }
                }
                depth += 1;
                atom = false;
            }
            ')' => {
                depth = match depth.checked_sub(1) {
                    Some(depth) => depth,
                    None => return fault("a bracket that was not opened"),
                };
                atom = true;
            }
            '|' | '^' | '$' => atom = false,
            '*' | '+' | '?' | '{' => {
                if !atom {
                    return fault("a quantifier without anything before it");
                }
                if char == '{' && !bound(&mut chars) {
                    return fault("bounds are {m}, {m,} or {m,n} up to 64");
                }
                chars.next_if_eq(&'?');
                atom = false;
            }
            '[' => {
                if !bracket(&mut chars) {
                    return fault("a bracket expression that is not served");
                }
                atom = true;
            }
            ']' | '}' => return fault("a bracket that was not opened"),
            _ => atom = true,
        }
    }
    if depth != 0 {
        return fault("a bracket that is not closed");
    }
    Ok(())
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// `m}`, `m,}` or `m,n}`.
fn bound(chars: &mut Chars<'_>) -> bool {
    let inside: String = chars.by_ref().take_while(|char| *char != '}').collect();
    let number = |text: &str| {
        text.parse::<u32>()
            .ok()
            .filter(|n| *n <= 64 && text.bytes().all(|byte| byte.is_ascii_digit()))
    };
    match inside.split_once(',') {
        None => number(&inside).is_some(),
        Some((low, "")) => number(low).is_some(),
        Some((low, high)) => number(low)
            .zip(number(high))
            .is_some_and(|(low, high)| low <= high),
    }
}

/// The rest of `[…]`: letters, ranges, escapes and named classes.
fn bracket(chars: &mut Chars<'_>) -> bool {
    chars.next_if_eq(&'^');
    let mut last: Option<char> = None;
    let mut count = 0u32;
    while let Some(char) = chars.next() {
        count += 1;
        match char {
            ']' => return count > 1,
            '[' => {
                let name: String = chars.by_ref().take_while(|char| *char != ']').collect();
                const NAMES: &[&str] = &[
                    ":alpha:", ":digit:", ":alnum:", ":upper:", ":lower:", ":space:", ":punct:",
                    ":xdigit:",
                ];
                if !NAMES.contains(&&*name) {
                    return false;
                }
                last = None;
            }
            '\\' => match chars.next() {
                Some('d' | 'w' | 's') => last = None,
                Some(escaped) if escaped.is_ascii_punctuation() => last = Some(escaped),
                _ => return false,
            },
            '-' if count > 1 && chars.peek() != Some(&']') => {
                // A range of ASCII letters or digits in order.
                let Some((low, high)) = last.zip(chars.next()) else {
                    return false;
                };
                if !low.is_ascii_alphanumeric() || !high.is_ascii_alphanumeric() || low > high {
                    return false;
                }
                last = None;
            }
            other => last = Some(other),
        }
    }
    false
}
