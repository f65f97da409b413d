//! An input, read as decisions.

/// Bytes that are read from the front. Where there are none left, what is read is zero or empty.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Read from these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Tell whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Take a byte.
    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or_default()
    }

    /// Take a number of two bytes.
    pub fn pair(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// Take one of these.
    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }

    /// Take up to `size` bytes.
    pub fn bytes(&mut self, size: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(size.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Take a byte that says how many, and as many bytes.
    pub fn counted(&mut self) -> &'a [u8] {
        let size = self.byte().into();
        self.bytes(size)
    }

    /// Take all that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.bytes(self.0.len())
    }
}

/// How a piece of input is cut once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Not at all.
    Whole,
    /// After every byte.
    Bytes,
    /// After some bytes each; the number decides how many.
    Pieces(u64),
}

impl Cut {
    /// Call `each` with the pieces of `bytes`, in order.
    pub fn apply<'a>(&mut self, mut bytes: &'a [u8], mut each: impl FnMut(&'a [u8])) {
        while !bytes.is_empty() {
            let size = match self {
                Self::Whole => bytes.len(),
                Self::Bytes => 1,
                Self::Pieces(state) => {
                    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let drawn = usize::try_from(*state >> 40).expect("24 bits");
                    1 + drawn % [1, 3, 14, 200, 20_000][drawn % 5]
                }
            };
            let (piece, rest) = bytes.split_at(size.min(bytes.len()));
            each(piece);
            bytes = rest;
        }
    }
}
