//! permessage-deflate (RFC 7692): the payload of one connection's messages, compressed and inflated.

use std::cell::{Cell, RefCell};
use std::fmt;

use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateFlush, Status};

use crate::error::Error;

/// What `SYNC_FLUSH` ends with, an empty stored block without its header bits: stripped by the sender, appended by
/// the receiver (RFC 7692 §7.2.1 and §7.2.2).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];
/// Window bits of every inflater. It reads what any smaller window compressed, zlib-rs allocates no less for one, and
/// only so does a distance that the agreed window would not permit mean the same however the bytes are split.
const INFLATE_WINDOW_BITS: u8 = 15;
/// Bytes of output that one step makes room for, at the least.
const MIN_STEP: usize = 512;
/// Bytes of output that one step makes room for, at the most.
const MAX_STEP: usize = 64 * 1024;
/// Idle compressors that a thread keeps. Peers choose window bits, so their number is bounded; each holds some 260 KiB.
const MAX_COMPRESSORS: usize = 8;

/// What the handshake agreed on (RFC 7692 §7.1), resolved for our role: "compress" is what we send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeflateConfig {
    /// Base-2 logarithm of our compressor's window, 9 to 15; other values are taken as the nearest of these.
    pub compress_window_bits: u8,
    /// Base-2 logarithm of the peer's window, 8 to 15. What a larger window compressed is inflated all the same.
    pub decompress_window_bits: u8,
    /// Keep our window from one message to the next; costs a compressor per connection.
    pub compress_takeover: bool,
    /// The peer keeps its window from one message to the next; costs an inflater per connection.
    pub decompress_takeover: bool,
    /// Effort, 0 (none) to 9.
    pub level: u8,
    /// Memory of the compressor, 1 to 9.
    pub mem_level: u8,
    /// Bytes that an unfragmented message needs to be compressed unasked.
    pub threshold: usize,
}

/// What a compressor was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parameters {
    window_bits: u8,
    level: u8,
    mem_level: u8,
}

impl Parameters {
    fn of(config: &DeflateConfig) -> Self {
        Self { window_bits: config.compress_window_bits, level: config.level, mem_level: config.mem_level }
    }

    /// Append the compressed payload of a whole message, which needs nothing that was sent before.
    pub(crate) fn compress(self, payload: &[u8], out: &mut Vec<u8>) {
        let mut compressor = take_compressor(self);
        compress_last(&mut compressor, payload, out);
        put_compressor(self, compressor);
    }
}

thread_local! {
    /// At most one idle compressor per set of parameters. A message takes it and puts it back when it is done, so one
    /// that is sent in several calls cannot be disturbed by another connection.
    static COMPRESSORS: RefCell<Vec<(Parameters, Deflate)>> = const { RefCell::new(Vec::new()) };
    /// At most one idle inflater. A message takes it: for one call if it came in one chunk, else until it is whole.
    static INFLATER: Cell<Option<Inflate>> = const { Cell::new(None) };
}

/// Compresses and inflates the messages of one connection.
pub(crate) struct PerMessageDeflate {
    config: DeflateConfig,
    /// With takeover from the first message on, otherwise while a message is being sent.
    compressor: Option<Deflate>,
    /// With takeover from the first message on, otherwise while a message is being read.
    inflater: Option<Inflate>,
    /// The inflater has read a final block, and nothing after it.
    ended: bool,
}

impl PerMessageDeflate {
    pub(crate) fn new(mut config: DeflateConfig) -> Self {
        config.compress_window_bits = config.compress_window_bits.clamp(9, 15);
        config.level = config.level.min(9);
        config.mem_level = config.mem_level.clamp(1, 9);
        Self { config, compressor: None, inflater: None, ended: false }
    }

    /// Bytes that an unfragmented message needs to be compressed unasked.
    #[inline]
    pub(crate) fn threshold(&self) -> usize {
        self.config.threshold
    }

    /// What compresses a message to the same bytes on every connection that has it; None where that depends on the
    /// messages before.
    #[inline]
    pub(crate) fn shared(&self) -> Option<Parameters> {
        if self.config.compress_takeover { None } else { Some(Parameters::of(&self.config)) }
    }

    /// Append the compressed `payload` of the next frame of a message to `out`.
    pub(crate) fn compress(&mut self, payload: &[u8], fin: bool, out: &mut Vec<u8>) {
        let compressor = self.compressor.get_or_insert_with(|| {
            let parameters = Parameters::of(&self.config);
            if self.config.compress_takeover { new_compressor(parameters) } else { take_compressor(parameters) }
        });
        if !fin {
            sync_flush(compressor, payload, out);
            return;
        }
        compress_last(compressor, payload, out);
        if !self.config.compress_takeover
            && let Some(compressor) = self.compressor.take()
        {
            put_compressor(Parameters::of(&self.config), compressor);
        }
    }

    /// Append what `input`, the next bytes of a message's payload, inflates to.
    ///
    /// `room` is how many bytes that may be; not more than one byte above it is written.
    ///
    /// # Errors
    /// What is wrong first in the order of the stream.
    pub(crate) fn inflate(&mut self, input: &[u8], room: u64, out: &mut Vec<u8>) -> Result<(), InflateError> {
        let (mut input, mut room) = (input, room);
        let mut step = input.len().saturating_mul(4);
        while !input.is_empty() {
            if self.ended {
                // §7.2.3.4: more blocks may follow one that has BFINAL set. They begin a new stream.
                self.restart();
            }
            let inflater = self.inflater.get_or_insert_with(|| new_inflater(&self.config));
            loop {
                // One byte more than there is room for tells "just fits" from "too big".
                let permitted = usize::try_from(room).unwrap_or(usize::MAX).saturating_add(1);
                let space = step.clamp(MIN_STEP, MAX_STEP).min(permitted);
                let start = out.len();
                grow(out, space, permitted);
                let (before_in, before_out) = (inflater.total_in(), inflater.total_out());
                let status = inflater.decompress(input, &mut out[start..], InflateFlush::SyncFlush);
                let read = usize::try_from(inflater.total_in() - before_in).unwrap_or(input.len());
                let written = usize::try_from(inflater.total_out() - before_out).unwrap_or(space);
                out.truncate(start + written);
                input = &input[read..];
                room = room.checked_sub(written as u64).ok_or(InflateError::TooBig)?;
                match status {
                    Err(_) => return Err(InflateError::Invalid),
                    Ok(Status::StreamEnd) => {
                        self.ended = true;
                        break;
                    }
                    Ok(_) if written == space => step = space.saturating_mul(2),
                    // There was more space, so all that the input means is written.
                    Ok(_) if input.is_empty() => return Ok(()),
                    Ok(_) if read == 0 && written == 0 => return Err(InflateError::Invalid),
                    Ok(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Append what the end of a message's payload adds, and get ready for the next message.
    ///
    /// # Errors
    /// As [`inflate`](Self::inflate).
    pub(crate) fn finish_inflate(&mut self, room: u64, out: &mut Vec<u8>) -> Result<(), InflateError> {
        if !self.ended {
            // §7.2.2: append the four bytes that the sender removed. After a final block there is nothing to end.
            self.inflate(&TAIL, room, out)?;
        }
        if !self.config.decompress_takeover {
            if let Some(inflater) = self.inflater.take() {
                put_inflater(inflater);
            }
            self.ended = false;
        }
        // With takeover, a stream that ended is replaced when there is something to inflate.
        Ok(())
    }

    /// Free what inflating needed: nothing more will arrive.
    pub(crate) fn stop_inflating(&mut self) {
        self.inflater = None;
    }

    /// Begin a new stream, without the window of the one before.
    fn restart(&mut self) {
        self.ended = false;
        if let Some(inflater) = &mut self.inflater {
            inflater.reset(false);
        }
    }
}

fn new_inflater(config: &DeflateConfig) -> Inflate {
    if !config.decompress_takeover
        && let Some(mut inflater) = INFLATER.try_with(Cell::take).ok().flatten()
    {
        inflater.reset(false);
        return inflater;
    }
    Inflate::new(false, INFLATE_WINDOW_BITS)
}

fn put_inflater(inflater: Inflate) {
    // Without its thread's slot, when the thread ends, it is freed.
    let _ = INFLATER.try_with(|slot| slot.set(Some(inflater)));
}

fn new_compressor(parameters: Parameters) -> Deflate {
    Deflate::new_with_config(zlib_rs::DeflateConfig {
        level: i32::from(parameters.level),
        // Negative means raw deflate, without zlib's header.
        window_bits: -i32::from(parameters.window_bits),
        mem_level: i32::from(parameters.mem_level),
        ..zlib_rs::DeflateConfig::default()
    })
}

/// Take the thread's idle compressor, as if it were new, or make one.
fn take_compressor(parameters: Parameters) -> Deflate {
    let taken = COMPRESSORS.try_with(|idle| {
        let mut idle = idle.borrow_mut();
        let at = idle.iter().position(|(kept, _)| *kept == parameters)?;
        Some(idle.swap_remove(at).1)
    });
    if let Ok(Some(mut compressor)) = taken {
        compressor.reset();
        return compressor;
    }
    new_compressor(parameters)
}

fn put_compressor(parameters: Parameters, compressor: Deflate) {
    let _ = COMPRESSORS.try_with(|idle| {
        let mut idle = idle.borrow_mut();
        if idle.iter().all(|(kept, _)| *kept != parameters) {
            if idle.len() == MAX_COMPRESSORS {
                idle.remove(0);
            }
            idle.push((parameters, compressor));
        }
    });
}

/// Append what the last or only frame of a message compresses to.
fn compress_last(compressor: &mut Deflate, payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    sync_flush(compressor, payload, out);
    // §7.2.1: remove the four bytes from the end of the message. Where the flush had nothing to add, since the frame
    // before ended with one, the message is to end with an empty stored block all the same.
    if out[start..].ends_with(&TAIL) {
        out.truncate(out.len() - TAIL.len());
    } else {
        out.push(0x00);
    }
}

/// Append what `payload` compresses to, ended with `SYNC_FLUSH`.
fn sync_flush(compressor: &mut Deflate, payload: &[u8], out: &mut Vec<u8>) {
    let mut input = payload;
    let space = (payload.len() + 64).min(MAX_STEP);
    loop {
        let start = out.len();
        out.resize(start + space, 0);
        let (before_in, before_out) = (compressor.total_in(), compressor.total_out());
        let status = compressor.compress(input, &mut out[start..], DeflateFlush::SyncFlush);
        debug_assert!(status.is_ok(), "the compressor's state is valid: {status:?}");
        let read = usize::try_from(compressor.total_in() - before_in).unwrap_or(input.len());
        let written = usize::try_from(compressor.total_out() - before_out).unwrap_or(space);
        out.truncate(start + written);
        input = &input[read..];
        // zlib.h: the flush is complete when there is space left.
        if written < space {
            debug_assert!(input.is_empty());
            return;
        }
    }
}

/// Make `out` longer by `space` bytes, doubling its capacity up to what `permitted` more bytes need.
fn grow(out: &mut Vec<u8>, space: usize, permitted: usize) {
    let start = out.len();
    if out.capacity() - start < space {
        out.reserve_exact(space.max(start.min(permitted)));
    }
    out.resize(start + space, 0);
}

impl fmt::Debug for PerMessageDeflate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerMessageDeflate").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Why a payload could not be inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InflateError {
    /// It is not a deflate stream.
    Invalid,
    /// It is more than there is room for.
    TooBig,
}

impl InflateError {
    /// Name the limit that was passed.
    pub(crate) fn into_error(self, max_size: u64) -> Error {
        match self {
            Self::Invalid => Error::InvalidDeflate,
            Self::TooBig => Error::InflatedTooBig(max_size),
        }
    }
}
