//! Errors and notices of upstream, as far as the client may hear them.
//!
//! Knows nothing about sessions. Invariant: what speaks of the rewritten text,
//! of the server's source, or of a row that was written, is left out.

use crate::upstream::frame::backend::Fields;

/// What an ErrorResponse or NoticeResponse says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// The session ends with it.
    pub(crate) fatal: bool,
    /// SQLSTATE; `XX000` where there is none.
    pub(crate) state: String,
    /// The frame for the client.
    pub(crate) frame: Vec<u8>,
}

/// Rewrites a frame with that tag and body. `plain`: nothing is masked for this
/// caller.
///
/// Dropped: `P p q` (positions in, and text of, what was sent), `W` (context,
/// which quotes statements), `F L R` (the server's source). `D` goes where it
/// quotes a row as stored: integrity violations (class 23) and WITH CHECK OPTION
/// (class 44) say `Failing row contains (…)` and `Key (email)=(…)`.
///
/// Source: <https://www.postgresql.org/docs/current/protocol-error-fields.html>
pub(crate) fn sanitize(tag: u8, body: &[u8], plain: bool) -> Said {
    let fields = || Fields::of(body).flatten();
    let find = |code| fields().find(|(own, _)| *own == code).map(|(_, text)| text);
    let state = find(b'C')
        .filter(|state| state.len() == 5)
        .and_then(|state| std::str::from_utf8(state).ok())
        .unwrap_or("XX000")
        .to_owned();
    let severity = find(b'V').or_else(|| find(b'S'));
    let quotes_rows = !plain && (state.starts_with("23") || state.starts_with("44"));
    let mut frame = vec![tag, 0, 0, 0, 0];
    for (code, text) in fields() {
        let kept = match code {
            b'D' => !quotes_rows,
            b'S' | b'V' | b'C' | b'M' | b'H' | b's' | b't' | b'c' | b'd' | b'n' => true,
            _ => false,
        };
        if kept {
            frame.push(code);
            frame.extend_from_slice(text);
            frame.push(0);
        }
    }
    frame.push(0);
    let length = u32::try_from(frame.len() - 1).unwrap_or(u32::MAX);
    if let Some(header) = frame.get_mut(1..5) {
        header.copy_from_slice(&length.to_be_bytes());
    }
    // DEBUG and LOG show statements as they were sent. (In messages to clients,
    // see `elog.h`; what a function RAISEs to LOG does not go to them either.)
    if severity.is_some_and(|it| it.starts_with(b"DEBUG") || it == b"LOG") {
        frame.clear();
    }
    Said {
        fatal: matches!(severity, Some(b"FATAL" | b"PANIC")),
        state,
        frame,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(fields: &[&str]) -> Vec<u8> {
        let mut body = fields.join("\0").into_bytes();
        body.extend_from_slice(b"\0\0");
        body
    }

    #[test]
    fn what_speaks_of_the_rewritten_text_is_dropped() {
        let said = sanitize(
            b'E',
            &body(&[
                "SFEHLER",
                "VERROR",
                "C42703",
                "Mno such column",
                "P120",
                "p3",
                "qSELECT mask",
                "WSQL function",
                "Fparse.c",
                "L1",
                "Rerr",
                "Htry another",
            ]),
            true,
        );
        let text = String::from_utf8(said.frame[5..].to_vec()).unwrap();
        assert_eq!(
            text,
            "SFEHLER\0VERROR\0C42703\0Mno such column\0Htry another\0\0"
        );
        assert_eq!(
            said.frame[1..5],
            (said.frame.len() as u32 - 1).to_be_bytes()
        );
        assert_eq!((said.fatal, said.state.as_str()), (false, "42703"));
    }

    #[test]
    fn a_failing_row_is_shown_only_where_all_is_clear() {
        let body = body(&[
            "SERROR",
            "VERROR",
            "C23505",
            "Mduplicate",
            "DKey (email)=(a@b) exists",
        ]);
        let masked = sanitize(b'E', &body, false).frame;
        assert!(!masked.windows(3).any(|three| three == b"a@b"));
        let clear = sanitize(b'E', &body, true).frame;
        assert!(clear.windows(3).any(|three| three == b"a@b"));
    }

    #[test]
    fn a_malformed_one_keeps_what_can_be_read() {
        let said = sanitize(b'E', b"SFATAL\0C57P01\0Mgoing", false);
        assert!(said.fatal);
        assert_eq!(said.state, "57P01");
    }
}
