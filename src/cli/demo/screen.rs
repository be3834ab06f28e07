//! What the tour looks like: titles, tables, colours on a terminal.
//!
//! Knows nothing about what it shows.

use std::io::{IsTerminal, Write as _};

use super::PERSONAS;
use super::client::Answer;
use super::proxy::Proxy;

/// The widest a cell gets, and one of the last column; what is longer ends in
/// an ellipsis.
const CELL: usize = 26;
const LAST: usize = 44;

/// As println!, but whoever stops reading (`| head`) is no reason to panic.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}
pub(super) use say;

/// Where the demo prints.
pub(super) struct Screen {
    colours: bool,
    quiet: bool,
}

/// What a piece of text is.
#[derive(Clone, Copy)]
pub(super) enum Ink {
    /// As it is
    Plain,
    /// Stands out
    Strong,
    /// Steps back
    Faint,
    /// Allowed
    Good,
    /// Refused
    Bad,
    /// A name
    Name,
}

impl Screen {
    /// Quiet: shows no progress. Colours only on a terminal, and not where
    /// <https://no-color.org> asks for none.
    pub(super) fn new(quiet: bool) -> Self {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { colours, quiet }
    }

    /// Text in ink.
    pub(super) fn paint(&self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Plain => return text.to_owned(),
            Ink::Strong => 1,
            Ink::Faint => 2,
            Ink::Good => 32,
            Ink::Bad => 31,
            Ink::Name => 36,
        };
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// One line that the next one replaces, on a terminal.
    pub(super) fn progress(&self, what: &str) {
        if !self.quiet && std::io::stderr().is_terminal() {
            eprint!("\r\x1b[2K{what}");
            let _ = std::io::stderr().flush();
        }
    }

    /// The headline.
    pub(super) fn title(&self, text: &str) {
        say!("{}", self.paint(Ink::Strong, text));
    }

    /// A chapter of the tour.
    pub(super) fn chapter(&self, number: usize, text: &str) {
        let heading = format!("{number}. {text}");
        say!("\n{}", self.paint(Ink::Strong, &heading));
    }

    /// A statement as it was sent, with who sent it.
    pub(super) fn statement(&self, who: Option<&str>, sql: &str) {
        let who = who.map(|who| format!("{who}=> ")).unwrap_or_default();
        let margin = " ".repeat(who.len());
        let sql = sql.replace('\n', &format!("\n   {margin}"));
        say!("   {}{sql}", self.paint(Ink::Name, &who));
    }

    /// A line of text.
    pub(super) fn line(&self, ink: Ink, text: &str) {
        say!("   {}", self.paint(ink, text));
    }

    /// Names and texts in two columns.
    pub(super) fn pairs<'a>(&self, pairs: impl IntoIterator<Item = (&'a str, String)>) {
        let pairs: Vec<_> = pairs.into_iter().collect();
        let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let margin = format!("\n     {:width$}", "");
        for (name, text) in pairs {
            let name = format!("{name:width$}");
            let text = text.replace('\n', &margin);
            say!("   {}  {text}", self.paint(Ink::Name, &name));
        }
    }

    /// Several answers to one query, one beneath the other in shared columns.
    pub(super) fn compare(&self, answers: &[(&str, Answer)]) {
        let Some((_, first)) = answers.first() else {
            return;
        };
        let clipped = |row: &[Option<String>]| -> Vec<String> {
            let last = row.len().saturating_sub(1);
            row.iter()
                .enumerate()
                .map(|(at, cell)| clip(cell.as_deref(), if at == last { LAST } else { CELL }))
                .collect()
        };
        let mut widths: Vec<usize> = first.columns.iter().map(|name| name.len()).collect();
        for row in answers.iter().flat_map(|(_, answer)| &answer.rows) {
            for (width, cell) in widths.iter_mut().zip(clipped(row)) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let margin = answers.iter().map(|(who, _)| who.len()).max().unwrap_or(0);
        let spread = |cells: Vec<String>| {
            let cells: Vec<String> = cells
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            cells.join("  ").trim_end().to_owned()
        };
        let heading = spread(first.columns.clone());
        let gap = if margin == 0 { "" } else { "  " };
        say!("   {:margin$}{gap}{}", "", self.paint(Ink::Faint, &heading));
        for (who, answer) in answers {
            let mut who = format!("{who:margin$}{gap}");
            for row in &answer.rows {
                let row = spread(clipped(row));
                say!("   {}{row}", self.paint(Ink::Name, &who));
                who = " ".repeat(margin + gap.len());
            }
        }
    }

    /// How to go on by hand.
    pub(super) fn farewell(&self, proxy: &Proxy) {
        say!(
            "\n{}",
            self.paint(
                Ink::Strong,
                "Now you. Ctrl-C stops everything and removes it."
            )
        );
        for (persona, dsn) in PERSONAS.iter().zip(proxy.dsns()) {
            say!(
                "   {}",
                self.paint(Ink::Faint, &format!("# {}", persona.about))
            );
            say!("   psql '{dsn}'");
        }
        say!("   {}", self.paint(Ink::Faint, "# the record"));
        say!("   tail -f {}", proxy.records().display());
    }
}

/// A cell as it is shown.
fn clip(cell: Option<&str>, width: usize) -> String {
    let text = cell.unwrap_or("NULL");
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}
