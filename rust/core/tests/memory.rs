//! What one connection can pin: by what arrived, never by what was announced.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::*;
use ferrows_core::{CloseFrame, Config, Connection, Error, Kind, Role, Sink, State};
use zlib_rs::{Deflate, DeflateFlush};

/// Counts the bytes that each thread holds, so that tests beside each other do not see one another.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

fn count(change: isize) {
    let held = HELD.get() + change;
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
    CALLS.set(CALLS.get() + 1);
}

// SAFETY: every call goes to the system's allocator as it is; the counters are plain thread-locals without destructors
// and allocate nothing. A layout's size fits an isize.
#[allow(clippy::cast_possible_wrap)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Keeps nothing but sizes.
#[derive(Default)]
struct Sizes {
    messages: usize,
    bytes: usize,
    failed: Option<u16>,
}

impl Sink for Sizes {
    fn message(&mut self, _: Kind, payload: &[u8], _: &[u32]) {
        self.messages += 1;
        self.bytes += payload.len();
    }
    fn fragment(&mut self, _: Kind, payload: &[u8], _: bool) {
        self.bytes += payload.len();
    }
    fn ping(&mut self, _: &[u8]) {}
    fn pong(&mut self, _: &[u8]) {}
    fn close(&mut self, _: &CloseFrame) {}
    fn failure(&mut self, error: &Error) {
        self.failed = error.close_code();
    }
}

/// Make a connection, and forget what its thread holds by now: shared buffers, the connection itself.
fn warm(config: Config) -> (Connection, Sizes) {
    let mut other = Connection::new(Config { role: Role::Server, ..config.clone() });
    other.receive_data(&masked(FIN | BINARY, &vec![0; 20_000]), &mut Sizes::default());
    let connection = Connection::new(config);
    HELD.set(0);
    PEAK.set(0);
    CALLS.set(0);
    (connection, Sizes::default())
}

fn bounded(accepted: usize) -> isize {
    isize::try_from(2 * accepted + 4096).expect("fits")
}

#[test]
fn test_many_one_byte_fragments_pin_no_more_than_twice_their_bytes() {
    let (mut connection, mut sink) = warm(server());
    let (first, more) = (masked(BINARY, b"x"), masked(0, b"x"));
    connection.receive_data(&first, &mut sink);
    for i in 1..100_000 {
        connection.receive_data(&more, &mut sink);
        assert!(HELD.get() <= bounded(i), "{} bytes after {i} fragments", HELD.get());
    }
    // Growing by doubling: twice as many fragments cost twice as much.
    assert!(CALLS.get() < 100, "{} allocations", CALLS.get());
}

#[test]
fn test_many_empty_fragments_pin_nothing() {
    let (mut connection, mut sink) = warm(server());
    let (first, more) = (masked(TEXT, b""), masked(0, b""));
    connection.receive_data(&first, &mut sink);
    for _ in 0..300_000 {
        connection.receive_data(&more, &mut sink);
    }
    assert!(HELD.get() <= bounded(0), "{}", HELD.get());
}

#[test]
fn test_a_frame_in_one_byte_writes_pins_no_more_than_twice_its_bytes() {
    for (first, size) in [(FIN | BINARY, 60_000), (TEXT, 60_000)] {
        let bytes = masked(first, &vec![b'x'; size]);
        let (mut connection, mut sink) = warm(server());
        for (i, byte) in bytes.chunks(1).enumerate() {
            connection.receive_data(byte, &mut sink);
            assert!(PEAK.get() <= bounded(i), "{} bytes after {i}", PEAK.get());
        }
    }
}

#[test]
fn test_an_announced_length_costs_nothing() {
    for length in [1 << 20, 1 << 40, 1 << 62] {
        let (mut connection, mut sink) = warm(Config { max_size: None, ..server() });
        connection.receive_data(&header(BINARY, length, Some(KEY)), &mut sink);
        connection.receive_data(b"xyz", &mut sink);
        assert_eq!(connection.state(), State::Open);
        assert!(PEAK.get() <= bounded(3), "{}", PEAK.get());
    }
}

#[test]
fn test_messages_in_one_chunk_allocate_nothing() {
    for deflate in [None, Some(deflate())] {
        let (mut connection, mut sink) = warm(Config { deflate, ..server() });
        let bytes = [masked(FIN | TEXT, b"Hello"), masked(FIN | BINARY, &[0; 5000])].concat().repeat(50);
        let mut step = || {
            connection.receive_data(&bytes, &mut sink);
            for _ in 0..100 {
                connection.send_binary(b"Hello", true, None).expect("open");
            }
            connection.clear_output();
        };
        step();
        CALLS.set(0);
        step();
        assert_eq!(CALLS.get(), 0);
        assert_eq!(sink.messages, 200);
    }
}

#[test]
fn test_an_idle_connection_keeps_no_buffers() {
    let parameters = deflate();
    for config in [server(), client(), deflating(Role::Server, parameters)] {
        let masks = config.role == Role::Server;
        let (mut connection, mut sink) = warm(config);
        let build = |first, payload: &[u8]| if masks { masked(first, payload) } else { unmasked(first, payload) };
        let bytes = [build(TEXT, b"a"), build(FIN, &[b'b'; 10_000]), build(FIN | PING, b"p")].concat();
        for piece in bytes.chunks(999) {
            connection.receive_data(piece, &mut sink);
        }
        connection.send_binary(&[0; 5000], true, Some(true)).expect("open");
        let mut out = Vec::new();
        connection.take_output(&mut out);
        drop((out, bytes));
        assert_eq!(sink.messages, 1);
        // What is left is shared by the thread's connections: buffers, one compressor. The connection itself holds
        // its parameters, if any.
        let held = HELD.get();
        drop(connection);
        assert!(held - HELD.get() <= 512, "dropping it frees {} bytes", held - HELD.get());
    }
    assert!(size_of::<Connection>() <= 384, "{} bytes", size_of::<Connection>());
}

#[test]
fn test_a_deflate_bomb_pins_its_limit_and_64_kib() {
    let limit = 1 << 18;
    let mut bomb = vec![0; 1 << 16];
    let mut compressor = Deflate::new(9, false, 15);
    compressor.compress(&vec![0; 4 << 20], &mut bomb, DeflateFlush::SyncFlush).expect("valid state");
    bomb.truncate(usize::try_from(compressor.total_out()).expect("fits"));
    drop(compressor);
    for decompress_takeover in [false, true] {
        let parameters = ferrows_core::DeflateConfig { decompress_takeover, ..deflate() };
        let config = Config { max_size: Some(limit), ..deflating(Role::Server, parameters) };
        let whole = masked(FIN | RSV1 | BINARY, &bomb);
        let pieces =
            [masked(RSV1 | BINARY, &bomb[..50]), masked(0, &bomb[50..100]), masked(FIN, &bomb[100..])].concat();
        for (bytes, chunk) in [(&whole, whole.len()), (&whole, 100), (&pieces, pieces.len()), (&pieces, 100)] {
            let (mut connection, mut sink) = warm(config.clone());
            for piece in bytes.chunks(chunk) {
                connection.receive_data(piece, &mut sink);
            }
            assert_eq!(sink.failed, Some(1009));
            // 48 KiB of it are the inflater itself.
            let permitted = isize::try_from(limit).expect("fits") + 64 * 1024;
            assert!(PEAK.get() <= permitted, "{} of {permitted} bytes, chunks of {chunk}", PEAK.get());
        }
    }
}
