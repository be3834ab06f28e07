//! Edits of canonical text, at bytes where both parsers see the same thing.

/// Replaces `start..end` by `text`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) text: String,
}

/// Applies edits; `None` if they overlap or do not fit the text, which is a
/// fault of whoever made them: the statement is then refused.
pub(super) fn apply(text: &str, mut edits: Vec<Edit>) -> Option<String> {
    edits.sort_by_key(|edit| (edit.start, edit.end));
    let grown: usize = edits.iter().map(|edit| edit.text.len()).sum();
    let mut out = String::with_capacity(text.len() + grown);
    let mut at = 0;
    for edit in &edits {
        if edit.start < at || edit.end < edit.start {
            return None;
        }
        out.push_str(text.get(at..edit.start)?);
        out.push_str(&edit.text);
        at = edit.end;
    }
    out.push_str(text.get(at..)?);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(start: usize, end: usize, text: &str) -> Edit {
        Edit {
            start,
            end,
            text: text.into(),
        }
    }

    #[test]
    fn edits_in_any_order() {
        let edits = vec![edit(4, 5, "Y"), edit(0, 1, "xx"), edit(3, 3, "-")];
        assert_eq!(apply("a b c", edits).as_deref(), Some("xx b- Y"));
    }

    #[test]
    fn overlapping_edits_are_refused() {
        assert_eq!(apply("abcdef", vec![edit(0, 3, ""), edit(2, 4, "")]), None);
        assert_eq!(apply("abc", vec![edit(2, 9, "")]), None);
    }
}
