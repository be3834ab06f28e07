//! Text without its comments, for the grammar to read where it stumbles over one.
//!
//! Where Postgres's parser looks a word ahead (`NULLS FIRST`, `NOT LIKE`, `WITH TIME
//! ZONE`), libpg_query's takes a comment for that word. Knows nothing about trees: what
//! comes of such a text is read, printed and judged like any other.

/// The same text with spaces for comments, so that each byte stays where it was; none
/// where there are none, something has no end, or a comment keeps strings apart.
pub(super) fn blanked(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut found = false;
    let mut start = 0;
    while let Some(rest) = text.get(start..).filter(|rest| !rest.is_empty()) {
        let word = out.ends_with(is_wordy);
        let (length, comment) = match rest.as_bytes() {
            [b'-', b'-', ..] => (rest.find(['\n', '\r']).unwrap_or(rest.len()), true),
            [b'/', b'*', ..] => (bracketed(rest)?, true),
            [b'\'', ..] => {
                let before = out.strip_suffix(['e', 'E']);
                let escapes = before.is_some_and(|before| !before.ends_with(is_wordy));
                (quoted(rest, escapes)?, false)
            }
            [b'"', ..] => (quoted(rest, false)?, false),
            [b'$', ..] if !word => (dollars(rest).unwrap_or(1), false),
            _ => (rest.chars().next()?.len_utf8(), false),
        };
        let piece = rest.get(..length)?;
        match comment {
            true => out.extend(std::iter::repeat_n(' ', length)),
            false => out.push_str(piece),
        }
        found |= comment;
        start += length;
        // Strings go on in another line, but not behind a comment.
        let quote = |text: Option<&str>| text.is_some_and(|text| text.starts_with('\''));
        if comment
            && out.trim_end().ends_with('\'')
            && quote(text.get(start..).map(str::trim_start))
        {
            return None;
        }
    }
    found.then_some(out)
}

fn is_wordy(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$') || !c.is_ascii()
}

/// The length of `/* … */`, in which others may nest.
fn bracketed(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    loop {
        match text.as_bytes().get(at..)? {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return Some(at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            [] => return None,
            _ => at += 1,
        }
    }
}

/// The length of what stands in quotes. A string with escapes that goes on in another
/// line is left to the grammar.
fn quoted(text: &str, escapes: bool) -> Option<usize> {
    let mut letters = text.char_indices().peekable();
    let (_, quote) = letters.next()?;
    while let Some((at, letter)) = letters.next() {
        if letter == '\\' && escapes {
            letters.next()?;
        } else if letter == quote && letters.next_if(|(_, next)| *next == quote).is_none() {
            let end = at + letter.len_utf8();
            let goes_on = escapes && text.get(end..)?.trim_start().starts_with(quote);
            return (!goes_on).then_some(end);
        }
    }
    None
}

/// The length of `$tag$ … $tag$`.
fn dollars(text: &str) -> Option<usize> {
    let name = text.get(1..)?.find('$')?;
    let tag = text.get(..name + 2)?;
    let inner = tag.get(1..=name)?;
    let is_tag = inner.chars().all(is_wordy) && !inner.starts_with(|c: char| c.is_ascii_digit());
    let end = text.get(tag.len()..)?.find(tag)?;
    is_tag.then_some(tag.len() + end + tag.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_become_spaces() {
        for (text, expected) in [
            ("a /* b /* c */ */ d", "a                 d"),
            ("a -- b\nc", "a     \nc"),
            ("a--ä", "a    "),
            (
                "'--' /*'*/ \"/*\" $$--$$ $x$/*$$*/$x$",
                "'--'       \"/*\" $$--$$ $x$/*$$*/$x$",
            ),
            ("E'\\'--' --", "E'\\'--'   "),
            ("me'\\' /* */", "me'\\'      "),
            ("a$b$ /**/ $1", "a$b$      $1"),
        ] {
            assert_eq!(blanked(text).as_deref(), Some(expected), "{text}");
            assert_eq!(expected.len(), text.len(), "{text}");
        }
        for none in [
            "a",
            "'--'",
            "/* /* */",
            "'a /* */",
            "E'a'\n'\\' -- '",
            "'a'\n/* */ -- b\n'c'",
        ] {
            assert_eq!(blanked(none), None, "{none}");
        }
    }
}
