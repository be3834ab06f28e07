//! The key that signs a log, in a file that only its owner reads.
//!
//! Knows nothing about logs. Invariant: a key is never written over another.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::tree::note::{NoteError, Signer};

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file cannot be read or written.
    #[error("the audit key {0}: {1}")]
    File(PathBuf, io::Error),
    /// It is not a key.
    #[error("the audit key {0}: {1}")]
    Key(PathBuf, NoteError),
    /// Others can read it.
    #[error("the audit key {0} can be read by others (hint: chmod 600 {0})")]
    Open(PathBuf),
}

/// Reads a key, or makes it where there is none yet; says whether it was made.
///
/// # Errors
/// Where it cannot be read or made, or others can read it.
pub fn read_or_make(file: &Path) -> Result<(Signer, bool), KeyError> {
    let fault = |error| KeyError::File(file.to_owned(), error);
    let text = match fs::read_to_string(file) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return make(file, None).map(|signer| (signer, true));
        }
        Err(error) => return Err(fault(error)),
    };
    let mode = fs::metadata(file).map_err(fault)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(KeyError::Open(file.to_owned()));
    }
    let signer = Signer::read(&text).map_err(|error| KeyError::Key(file.to_owned(), error))?;
    Ok((signer, false))
}

/// Makes a key, and puts what verifies beside it.
///
/// # Errors
/// Where it cannot be written, or there is one.
pub fn make(file: &Path, name: Option<&str>) -> Result<Signer, KeyError> {
    let fault = |error| KeyError::File(file.to_owned(), error);
    let (signer, text) =
        Signer::generate(name).map_err(|error| KeyError::Key(file.to_owned(), error))?;
    let text = Zeroizing::new(text);
    put(file, &text, 0o600).map_err(fault)?;
    let public = file.with_extension("pub");
    put(&public, &signer.verifier().text(), 0o644)
        .map_err(|error| KeyError::File(public.clone(), error))?;
    Ok(signer)
}

fn put(file: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(file)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_its_owner_s() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("audit.key");
        let (made, new) = read_or_make(&file).unwrap();
        assert!(new);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file), 0o600);
        let (read, new) = read_or_make(&file).unwrap();
        assert!(!new);
        assert_eq!(read.verifier(), made.verifier());
        let public = fs::read_to_string(file.with_extension("pub")).unwrap();
        assert_eq!(public.trim(), made.verifier().text());
        assert!(matches!(make(&file, None), Err(KeyError::File(..))));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read_or_make(&file), Err(KeyError::Open(_))));
    }
}
