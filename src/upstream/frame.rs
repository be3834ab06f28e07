//! Splits a stream of protocol messages into frames by their headers alone.
//!
//! Knows nothing about what a message means, nor about sockets. Serves both
//! directions once startup is over. The invariant: a body is never looked into
//! before its frame is whole and within a bound, and a frame that nobody wants to
//! look into is never held: a 1 GB DataRow passes in constant memory.
//!
//! A frame is a tag byte, then a length (`Int32`, itself included, the tag not),
//! then the body: <https://www.postgresql.org/docs/current/protocol-overview.html>

pub mod backend;
pub mod bind;
pub mod body;
pub mod frontend;

/// Tag and length.
pub const HEADER: usize = 5;

/// A set of message tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags([u64; 4]);

impl Tags {
    /// No tag.
    pub const NONE: Self = Self([0; 4]);
    /// Every tag.
    pub const ALL: Self = Self([u64::MAX; 4]);

    /// These tags: `Tags::of(b"TZC")`.
    pub const fn of(tags: &[u8]) -> Self {
        let mut set = Self::NONE;
        let mut rest = tags;
        while let [tag, tail @ ..] = rest {
            set = set.with(*tag);
            rest = tail;
        }
        set
    }

    /// And this one.
    pub const fn with(self, tag: u8) -> Self {
        self.or(Self::bit(tag))
    }

    /// Either's.
    pub const fn or(self, other: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Self([a | e, b | f, c | g, d | h])
    }

    /// All that are not in this set.
    pub const fn complement(self) -> Self {
        let [a, b, c, d] = self.0;
        Self([!a, !b, !c, !d])
    }

    /// Whether the tag is in the set.
    pub const fn contains(self, tag: u8) -> bool {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, Self::bit(tag).0);
        (a & e) | (b & f) | (c & g) | (d & h) != 0
    }

    const fn bit(tag: u8) -> Self {
        let bit = 1 << (tag & 63);
        match tag >> 6 {
            0 => Self([bit, 0, 0, 0]),
            1 => Self([0, bit, 0, 0]),
            2 => Self([0, 0, bit, 0]),
            _ => Self([0, 0, 0, bit]),
        }
    }
}

/// What to do with the front of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The first `len` bytes (never none) are frames, or parts of frames, that
    /// nobody asked to see: forward them as they are and drop them from the buffer.
    Run {
        /// How many bytes
        len: usize,
    },
    /// A whole frame of an interesting tag stands at the front, header included:
    /// take it out of the buffer.
    Interesting {
        /// Its tag
        tag: u8,
        /// Its length with the header; the body is `buf[HEADER..len]`
        len: usize,
    },
    /// Nothing can be done before at least `more` bytes are read.
    Need {
        /// How many at least
        more: usize,
    },
}

/// Bytes that are not frames, or a frame that is too long to be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A length that no message can have: below 4, or negative as `Int32`.
    #[error("a message `{}` cannot have the length {len}", tag.escape_ascii())]
    Length {
        /// The message's tag
        tag: u8,
        /// What its header says
        len: u32,
    },
    /// A frame that must be seen whole exceeds the bound.
    #[error("a message `{}` of {len} bytes exceeds the limit of {limit}", tag.escape_ascii())]
    TooLong {
        /// The message's tag
        tag: u8,
        /// Its body's length
        len: usize,
        /// The bound on a body
        limit: usize,
    },
}

/// Frames and bytes of the counted tags, for the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many frames began.
    pub frames: u64,
    /// Their bodies' bytes.
    pub bytes: u64,
}

/// Walks headers over a stream that arrives in pieces.
///
/// The caller keeps one buffer, hands all of it to [`Scanner::next`], and does what
/// the [`Step`] says before it asks again.
#[derive(Clone, Debug)]
pub struct Scanner {
    interesting: Tags,
    counted: Tags,
    limit: usize,
    /// Bytes still to come of an uninteresting body.
    passing: usize,
    tally: Tally,
}

impl Scanner {
    /// Shows frames of these tags whole, up to `limit` bytes of body.
    pub fn new(interesting: Tags, limit: usize) -> Self {
        Self {
            interesting,
            counted: Tags::NONE,
            limit,
            passing: 0,
            tally: Tally::default(),
        }
    }

    /// Counts frames of these tags among those that pass unseen.
    pub fn counting(mut self, counted: Tags) -> Self {
        self.counted = counted;
        self
    }

    /// Changes which tags are shown from the next header on.
    pub fn watch(&mut self, interesting: Tags) {
        self.interesting = interesting;
    }

    /// What was counted in the runs returned so far, and starts again from zero.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Whether the stream stands between two frames: where it may end, and where a
    /// message of the proxy's own may be put in.
    pub fn at_boundary(&self) -> bool {
        self.passing == 0
    }

    /// How many bytes are still to come of a body that passes unseen.
    pub fn passing(&self) -> usize {
        self.passing
    }

    /// What to do with the front of `buf`, which holds all that is not yet consumed.
    ///
    /// # Errors
    /// Where the bytes are not frames; nothing after them can be trusted.
    pub fn next(&mut self, buf: &[u8]) -> Result<Step, FrameError> {
        let mut run = self.passing.min(buf.len());
        self.passing -= run;
        // An open body reaches the end of the buffer, or the next header follows it.
        while self.passing == 0 {
            let rest = buf.get(run..).unwrap_or_default();
            let (tag, body) = match header(rest) {
                Ok(Some(header)) => header,
                Ok(None) => return Ok(run_or(run, HEADER.saturating_sub(rest.len()))),
                // What came before it passes, however it was cut into reads.
                Err(_) if run > 0 => return Ok(Step::Run { len: run }),
                Err(error) => return Err(error),
            };
            if self.interesting.contains(tag) {
                return self.whole(tag, body, rest.len(), run);
            }
            if self.counted.contains(tag) {
                self.tally.frames += 1;
                self.tally.bytes += body as u64;
            }
            let present = body.min(rest.len() - HEADER);
            run += HEADER + present;
            self.passing = body - present;
        }
        Ok(run_or(run, 1))
    }

    fn whole(&self, tag: u8, body: usize, have: usize, run: usize) -> Result<Step, FrameError> {
        if run > 0 {
            return Ok(Step::Run { len: run });
        }
        if body > self.limit {
            return Err(FrameError::TooLong {
                tag,
                len: body,
                limit: self.limit,
            });
        }
        let len = HEADER + body;
        if have < len {
            return Ok(Step::Need { more: len - have });
        }
        Ok(Step::Interesting { tag, len })
    }
}

/// The header at the front: tag and body length, once its five bytes are here.
///
/// # Errors
/// Where the length is one that no message can have.
pub fn header(buf: &[u8]) -> Result<Option<(u8, usize)>, FrameError> {
    let Some([tag, length @ ..]) = buf.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let len = u32::from_be_bytes(*length);
    // Int32 on the wire: what is above its maximum is a negative length.
    if len < 4 || len > i32::MAX as u32 {
        return Err(FrameError::Length { tag: *tag, len });
    }
    Ok(Some((*tag, len as usize - 4)))
}

fn run_or(run: usize, more: usize) -> Step {
    match run {
        0 => Step::Need { more },
        len => Step::Run { len },
    }
}

#[cfg(test)]
mod tests;
