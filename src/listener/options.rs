//! The startup parameter `options` (`PGOPTIONS`): command-line switches of a
//! backend, of which only settings are served.
//!
//! Knows nothing about which settings exist or are allowed. Invariant: every word
//! is understood or the whole is refused; a name that comes out is lower case and
//! made of letters, digits, `_`, `$` and `.` alone.
//!
//! Sources: `pg_split_opts`, `ParseLongOption` and `process_postgres_switches` in
//! Postgres's `postinit.c`, `guc.c` and `postgres.c`.

use crate::error::{SqlState, Tell, Told};

/// Why `options` is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A switch other than a setting.
    #[error("the command-line switch `{0}` in startup options is not served")]
    Switch(String),
    /// `-c` or `--name` without `=value`.
    #[error("`{0}` in startup options requires a value")]
    Value(String),
    /// Not a setting's name.
    #[error("`{0}` in startup options is not a setting's name")]
    Name(String),
}

impl Tell for OptionsError {
    fn tell(&self) -> Told {
        let state = match self {
            Self::Switch(_) => SqlState::FEATURE_NOT_SUPPORTED,
            Self::Value(_) | Self::Name(_) => SqlState::SYNTAX_ERROR,
        };
        Told::fatal(state, self.to_string()).hint("write settings as `-c name=value`")
    }
}

/// The settings in `options`, in order: of two of one name the last counts.
///
/// # Errors
/// For anything but `-c name=value`, `-cname=value` and `--name=value`.
pub fn parse_options(options: &str) -> Result<Vec<(String, String)>, OptionsError> {
    let mut settings = Vec::new();
    let mut words = split(options).into_iter();
    while let Some(word) = words.next() {
        let setting = if let Some(long) = word.strip_prefix("--") {
            long.to_owned()
        } else if word == "-c" {
            words
                .next()
                .ok_or_else(|| OptionsError::Value(word.clone()))?
        } else if let Some(short) = word.strip_prefix("-c") {
            short.to_owned()
        } else {
            return Err(OptionsError::Switch(word));
        };
        if setting.is_empty() {
            return Err(OptionsError::Switch(word));
        }
        let Some((name, value)) = setting.split_once('=') else {
            return Err(OptionsError::Value(setting));
        };
        settings.push((setting_name(name)?, value.to_owned()));
    }
    Ok(settings)
}

/// Dashes become underscores and case does not count, as in Postgres.
fn setting_name(name: &str) -> Result<String, OptionsError> {
    let folded = name.replace('-', "_").to_ascii_lowercase();
    let well_formed = folded.split('.').all(|part| {
        part.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$'))
    });
    if well_formed {
        Ok(folded)
    } else {
        Err(OptionsError::Name(name.to_owned()))
    }
}

/// Words stand apart by white space; a backslash takes the next character as it is.
fn split(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = options.chars();
    while let Some(next) = rest.next() {
        match next {
            // C's isspace, the vertical tab included.
            ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' => words.extend(word.take()),
            // A lone backslash at the end says nothing, and begins a word.
            '\\' => word.get_or_insert_default().extend(rest.next()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(options: &str, expected: &[(&str, &str)]) {
        let parsed = parse_options(options).unwrap();
        let parsed: Vec<_> = parsed.iter().map(|(n, v)| (&**n, &**v)).collect();
        assert_eq!(parsed, expected, "{options}");
    }

    #[test]
    fn understands_settings() {
        check("", &[]);
        check("  \t ", &[]);
        check("-c geqo=off", &[("geqo", "off")]);
        check("-cgeqo=off", &[("geqo", "off")]);
        check("--geqo=off", &[("geqo", "off")]);
        check("--Statement-Timeout=5min", &[("statement_timeout", "5min")]);
        check(
            " -c  a=1 -c b=2 --a=3",
            &[("a", "1"), ("b", "2"), ("a", "3")],
        );
        check("-c search_path=a,\\ b", &[("search_path", "a, b")]);
        check("-c x.y=a\\\\b=c", &[("x.y", "a\\b=c")]);
        check("-c a=", &[("a", "")]);
        check("-c a=x\\", &[("a", "x")]);
        check("-c a=é", &[("a", "é")]);
    }

    #[test]
    fn refuses_everything_else() {
        use OptionsError::*;
        let refused = |options: &str, error: OptionsError| {
            assert_eq!(parse_options(options).unwrap_err(), error, "{options}");
        };
        refused("-d 5", Switch("-d".into()));
        refused("-W 10", Switch("-W".into()));
        refused("-ec a=b", Switch("-ec".into()));
        refused("--", Switch("--".into()));
        refused("-", Switch("-".into()));
        refused("geqo=off", Switch("geqo=off".into()));
        refused("-c a=b stray", Switch("stray".into()));
        refused("\\", Switch(String::new()));
        refused("-c", Value("-c".into()));
        refused("-c geqo", Value("geqo".into()));
        refused("--geqo", Value("geqo".into()));
        refused("-c =x", Name(String::new()));
        refused("-c\\ geqo=off", Name(" geqo".into()));
        refused("-c a;b=1", Name("a;b".into()));
        refused("-c a..b=1", Name("a..b".into()));
        refused("-c 1a=1", Name("1a".into()));
    }
}
