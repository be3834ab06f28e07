//! What follows the names in a Bind: formats, values, result formats.
//!
//! Knows nothing about what a value means. Follows the fields as their bytes
//! arrive and holds none of them, so that a Bind of any length passes in constant
//! memory and one whose counts or lengths lie does not pass.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use super::body::Malformed;

/// Where in a Bind its bytes have come to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fields {
    at: At,
    /// Bytes of a number that have been read, and what they come to.
    have: u8,
    number: u32,
    /// Bytes of no interest that are still to come.
    skip: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// How many formats of values
    #[default]
    Formats,
    /// How many values
    Values,
    /// The length of a value, of so many that are left
    Length(u16),
    /// How many formats of results
    Results,
    End,
}

impl Fields {
    /// All bytes at once.
    ///
    /// # Errors
    /// Where counts or lengths lie.
    pub fn follow(bytes: &[u8]) -> Result<(), Malformed> {
        let mut fields = Self::default();
        fields.feed(bytes)?;
        fields.end()
    }

    /// The next bytes, which may end anywhere.
    ///
    /// # Errors
    /// Where a length is impossible, or the fields have ended before the bytes.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Malformed> {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let Some((&byte, rest)) = bytes.split_first() else {
                return Ok(());
            };
            if self.at == At::End {
                return Err(Malformed::Long);
            }
            bytes = rest;
            self.number = self.number << 8 | u32::from(byte);
            self.have += 1;
            let length = matches!(self.at, At::Length(_));
            if self.have == if length { 4 } else { 2 } {
                self.have = 0;
                let number = std::mem::take(&mut self.number);
                self.read(number)?;
            }
        }
    }

    /// There are no more bytes.
    ///
    /// # Errors
    /// Where the fields go on.
    pub fn end(self) -> Result<(), Malformed> {
        match (self.at, self.skip) {
            (At::End, 0) => Ok(()),
            _ => Err(Malformed::Short),
        }
    }

    fn read(&mut self, number: u32) -> Result<(), Malformed> {
        let value = |left: u32| match u16::try_from(left) {
            Ok(left) if left > 0 => At::Length(left),
            _ => At::Results,
        };
        match self.at {
            At::Formats => {
                self.skip = 2 * number as usize;
                self.at = At::Values;
            }
            At::Values => self.at = value(number),
            At::Length(left) => {
                self.skip = match i32::from_be_bytes(number.to_be_bytes()) {
                    -1 => 0, // NULL
                    length => usize::try_from(length)
                        .map_err(|_| Malformed::Value("the length of a value"))?,
                };
                self.at = value(u32::from(left) - 1);
            }
            At::Results => {
                self.skip = 2 * number as usize;
                self.at = At::End;
            }
            At::End => return Err(Malformed::Long),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::body::Body;
    use super::*;
    use crate::upstream::noise::Noise;

    fn follow<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(), Malformed> {
        let mut fields = Fields::default();
        for piece in pieces {
            fields.feed(piece)?;
        }
        fields.end()
    }

    /// The same of a whole body.
    fn read(bytes: &[u8]) -> Result<(), Malformed> {
        let mut body = Body::new(bytes);
        for _ in 0..body.count()? {
            body.int16()?;
        }
        for _ in 0..body.count()? {
            match body.int32()? {
                -1 => {}
                length => {
                    let length = usize::try_from(length)
                        .map_err(|_| Malformed::Value("the length of a value"))?;
                    body.bytes(length)?;
                }
            }
        }
        for _ in 0..body.count()? {
            body.int16()?;
        }
        body.end()
    }

    #[test]
    fn what_lies_is_found() {
        for (bytes, expected) in [
            (&b"\0\0\0\0\0\0"[..], Ok(())),
            (
                b"\0\x01\0\x01\0\x02\0\0\0\x03abc\xff\xff\xff\xff\0\x01\0\x01",
                Ok(()),
            ),
            (b"", Err(Malformed::Short)),
            (b"\0\0\0\0\0", Err(Malformed::Short)),
            (b"\0\0\0\x01\0\0", Err(Malformed::Short)),
            (b"\0\0\0\x01\0\0\0\x09x\0\0", Err(Malformed::Short)),
            (b"\0\0\0\0\0\0x", Err(Malformed::Long)),
            (
                b"\0\0\0\x01\xff\xff\xff\xfe\0\0",
                Err(Malformed::Value("the length of a value")),
            ),
        ] {
            assert_eq!(follow([bytes]), expected, "{bytes:?}");
            assert_eq!(read(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn it_does_not_matter_how_the_bytes_arrive() {
        let mut noise = Noise::new(11);
        let mut whole = 0;
        for _ in 0..50_000 {
            let mut bytes = noise.bytes(24);
            // Small numbers, mostly.
            for byte in &mut bytes {
                *byte = match *byte {
                    0..200 => 0,
                    200..225 => 1,
                    225..250 => 2,
                    250.. => 255,
                };
            }
            let expected = read(&bytes).is_ok();
            whole += u32::from(expected);
            assert_eq!(Fields::follow(&bytes).is_ok(), expected, "{bytes:?}");
            assert_eq!(follow(bytes.chunks(1)).is_ok(), expected, "{bytes:?}");
            assert_eq!(follow(bytes.chunks(3)).is_ok(), expected, "{bytes:?}");
        }
        assert!(whole > 100, "{whole}");
    }
}
