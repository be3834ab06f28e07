//! Reads a message's body: bounded, typed, and never beyond its end.
//!
//! Knows nothing about which message it reads. Text is strict UTF-8: a lossy
//! reading would let two different names look alike.

/// A body that is not what its tag says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends before its fields do.
    #[error("a message ends before its last field")]
    Short,
    /// It goes on after its last field.
    #[error("a message has bytes after its last field")]
    Long,
    /// A string without its NUL.
    #[error("a string in a message is not terminated")]
    Unterminated,
    /// A string that is not UTF-8.
    #[error("a string in a message is not UTF-8")]
    Encoding,
    /// A value that the field cannot have.
    #[error("a message has an impossible value for {0}")]
    Value(&'static str),
}

/// What is left of a body.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    /// From the first byte after the header.
    pub fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    /// `Byte1`
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    /// `Int16`, as counts are: unsigned.
    pub fn count(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// `Int16`
    pub fn int16(&mut self) -> Result<i16, Malformed> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    /// `Int32`
    pub fn int32(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// `Int32`, as OIDs are: unsigned.
    pub fn oid(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// That many bytes.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// A string up to its NUL, as bytes.
    pub fn raw(&mut self) -> Result<&'a [u8], Malformed> {
        let end = self
            .0
            .iter()
            .position(|byte| *byte == 0)
            .ok_or(Malformed::Unterminated)?;
        let text = self.bytes(end)?;
        self.bytes(1)?;
        Ok(text)
    }

    /// A string up to its NUL.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.raw()?).map_err(|_| Malformed::Encoding)
    }

    /// All that is left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Nothing may be left.
    pub fn end(self) -> Result<(), Malformed> {
        match self.0 {
            [] => Ok(()),
            _ => Err(Malformed::Long),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(*array)
    }
}
