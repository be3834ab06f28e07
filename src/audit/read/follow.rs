//! Reads a log while it is written.
//!
//! Knows nothing about what records say.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;

use crate::audit::segments::{Places, lines};

/// Where a reader stands.
#[derive(Debug)]
pub struct Follow {
    places: Places,
    live: BufReader<File>,
    /// What it has read of a line that has no end yet
    partial: Vec<u8>,
}

impl Follow {
    /// Reads what is there, and is then behind it.
    ///
    /// # Errors
    /// Where it cannot be read, or `to` fails.
    pub fn start(places: Places, mut to: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<Self> {
        // A file that is moved meanwhile is still this one.
        let live = File::open(&places.live)?;
        let number = live.metadata()?.ino();
        for segment in places.closed()? {
            let file = File::open(&segment.path)?;
            if file.metadata()?.ino() == number {
                break;
            }
            for line in lines(&segment.path)? {
                to(&line?)?;
            }
        }
        let mut follow = Self {
            places,
            live: BufReader::new(live),
            partial: Vec::new(),
        };
        follow.more(to)?;
        Ok(follow)
    }

    /// Reads what has come since.
    ///
    /// # Errors
    /// As [`Follow::start`].
    pub fn more(&mut self, mut to: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        loop {
            // Asked before the end is: what is written to it later is not missed.
            let own = self.live.get_ref().metadata()?.ino();
            let moved = match std::fs::metadata(&self.places.live) {
                Ok(now) => now.ino() != own,
                // Between its being moved and the next one's beginning.
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(error),
            };
            while self.live.read_until(b'\n', &mut self.partial)? > 0 {
                if self.partial.last() == Some(&b'\n') {
                    self.partial.pop();
                    to(&self.partial)?;
                    self.partial.clear();
                }
            }
            if !moved {
                return Ok(());
            }
            self.next(own)?;
        }
    }

    /// Turns to the file that began after this one.
    fn next(&mut self, own: u64) -> io::Result<()> {
        let closed = self.places.closed()?;
        let mut after = closed
            .iter()
            .skip_while(|it| !std::fs::metadata(&it.path).is_ok_and(|it| it.ino() == own))
            .skip(1);
        let path = match after.next() {
            Some(segment) => &segment.path,
            None => &self.places.live,
        };
        self.live = BufReader::new(File::open(path)?);
        self.live.seek(SeekFrom::Start(0))?;
        self.partial.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    #[test]
    fn no_line_is_missed_or_read_twice_where_files_are_closed_meanwhile() {
        let directory = tempfile::tempdir().unwrap();
        let places = Places::of(&directory.path().join("records.jsonl"));
        fs::create_dir_all(places.closing(0).parent().unwrap()).unwrap();
        let write = |text: &str| {
            let mut options = fs::OpenOptions::new();
            let mut file = options
                .append(true)
                .create(true)
                .open(&places.live)
                .unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let close = |first| fs::rename(&places.live, places.closing(first)).unwrap();
        let mut seen = Vec::new();
        write("1\n2\n");
        close(0);
        write("3\nhal");
        let mut follow = Follow::start(places.clone(), |line| {
            seen.push(String::from_utf8(line.to_vec()).unwrap());
            Ok(())
        })
        .unwrap();
        let mut more = |follow: &mut Follow| {
            follow
                .more(|line| {
                    seen.push(String::from_utf8(line.to_vec()).unwrap());
                    Ok(())
                })
                .unwrap();
            seen.join(" ")
        };
        assert_eq!(more(&mut follow), "1 2 3");
        write("f\n4\n");
        close(2);
        // Closed, and the next not yet begun.
        assert_eq!(more(&mut follow), "1 2 3 half 4");
        write("5\n");
        close(4);
        write("6\n");
        close(5);
        write("7\n");
        assert_eq!(more(&mut follow), "1 2 3 half 4 5 6 7");
        write("8\n");
        assert_eq!(more(&mut follow), "1 2 3 half 4 5 6 7 8");
    }
}
