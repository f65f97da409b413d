//! What the fuzz targets do, apart from libFuzzer: each is a function from bytes to nothing, which panics where an
//! invariant of `ferrows-core` does not hold. `cargo fuzz` runs them under `ASan`; `tests/seeds.rs` runs them on a
//! stable compiler over the seeds and over mutations that a fixed number draws.

pub mod connection;
pub mod deflate;
pub mod frame;
pub mod head;
pub mod input;
pub mod memory;
pub mod mutate;
pub mod recorder;
pub mod seeds;
pub mod wire;

/// A target: its name and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 4] =
    [("frame", frame::run), ("deflate", deflate::run), ("connection", connection::run), ("head", head::run)];
