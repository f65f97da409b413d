//! The time, for limits of rates: monotonic, from an arbitrary beginning.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The time since the first call.
pub fn now() -> Duration {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    BEGINNING.get_or_init(Instant::now).elapsed()
}
