//! The room's tests, by what they are about.

mod bearer;
mod certified;
mod decide;
mod expression;
mod load;

use super::Policy;

/// A policy of one file.
fn policy(text: &str) -> Policy {
    Policy::from_files(&[("p.yaml".into(), text.into())], 1).unwrap_or_else(|error| {
        panic!("{error}\n{text}");
    })
}

/// Why one file does not load.
fn refused(text: &str) -> String {
    match Policy::from_files(&[("p.yaml".into(), text.into())], 1) {
        Ok(_) => "it loads".into(),
        Err(error) => error.to_string(),
    }
}
