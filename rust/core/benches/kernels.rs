//! The kernels against what they replace, and the way of a message through a connection.
//!
//! `cargo bench -p ferrows-core` prints nanoseconds per call, the least of many rounds. Every result is checked.

use std::hint::black_box;
use std::time::Instant;

use ferrows_core::{CloseFrame, Config, Connection, DeflateConfig, Error, Kind, Role, Sink, apply_mask};

const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

fn main() {
    for size in [32, 1024, 64 * 1024] {
        mask(size);
    }
    for (size, burst) in [(32, 1), (32, 32), (1024, 32), (64 * 1024, 1)] {
        echo("text echo", size, burst, None);
    }
    echo("unaligned chunks of 64 KiB, text", 1 << 20, 1, None);
    let deflate = DeflateConfig {
        compress_window_bits: 15,
        decompress_window_bits: 15,
        compress_takeover: false,
        decompress_takeover: false,
        level: 6,
        mem_level: 8,
        threshold: 1024,
    };
    echo("deflate echo", 2048, 1, Some(deflate.clone()));
    echo("deflate echo, level 1", 2048, 1, Some(DeflateConfig { level: 1, ..deflate.clone() }));
    echo(
        "deflate echo, takeover",
        2048,
        1,
        Some(DeflateConfig { compress_takeover: true, decompress_takeover: true, ..deflate }),
    );
}

/// Measure the least time of `work`, in nanoseconds per call.
fn time(mut work: impl FnMut()) -> f64 {
    let mut calls = 1_u32;
    loop {
        let start = Instant::now();
        (0..calls).for_each(|_| work());
        if start.elapsed().as_millis() >= 2 {
            break;
        }
        calls *= 2;
    }
    let round = |_| {
        let start = Instant::now();
        (0..calls).for_each(|_| work());
        start.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
    };
    (0..100).map(round).fold(f64::INFINITY, f64::min)
}

fn mask(size: usize) {
    let mut data: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).expect("below 251")).collect();
    let mut expected = data.clone();
    naive_mask(&mut expected, KEY);
    apply_mask(&mut data, KEY);
    assert_eq!(data, expected);
    let kernel = time(|| apply_mask(black_box(&mut data), black_box(KEY)));
    let naive = time(|| naive_mask(black_box(&mut data), black_box(KEY)));
    println!("{:<44} {kernel:>10.1} ns, naive {naive:.1} ns", format!("mask {size}"));
}

#[inline(never)]
fn naive_mask(data: &mut [u8], mask: [u8; 4]) {
    for (i, byte) in data.iter_mut().enumerate() {
        *byte ^= mask[i % 4];
    }
}

/// Sends back what comes.
#[derive(Default)]
struct Echo {
    messages: Vec<Vec<u8>>,
    count: usize,
    bytes: usize,
}

impl Sink for Echo {
    fn message(&mut self, _: Kind, payload: &[u8], _: &[u32]) {
        if self.messages.len() == self.count {
            self.messages.push(Vec::new());
        }
        let slot = &mut self.messages[self.count];
        slot.clear();
        slot.extend_from_slice(payload);
        self.count += 1;
        self.bytes += payload.len();
    }
    fn fragment(&mut self, _: Kind, _: &[u8], _: bool) {}
    fn ping(&mut self, _: &[u8]) {}
    fn pong(&mut self, _: &[u8]) {}
    fn close(&mut self, _: &CloseFrame) {}
    fn failure(&mut self, error: &Error) {
        panic!("{error}");
    }
}

fn echo(name: &str, size: usize, burst: usize, deflate: Option<DeflateConfig>) {
    let compress = deflate.is_some();
    let config = Config { role: Role::Server, max_size: Some(1 << 21), deflate };
    let json: String = (0..).map(|i| format!(r#"{{"id":{i},"name":"user {i}"}},"#)).take(size / 10 + 1).collect();
    let text = &json[..size];
    let mut client = Connection::new(Config { role: Role::Client, ..config.clone() });
    for _ in 0..burst {
        client.send_text(text, true, Some(compress)).expect("open");
    }
    let mut input = Vec::new();
    client.take_output(&mut input);

    let mut connection = Connection::new(config);
    let mut sink = Echo::default();
    let takes_over = name.ends_with("takeover");
    let mut step = |input: &[u8]| {
        sink.count = 0;
        sink.bytes = 0;
        for chunk in input.chunks(64 * 1024 + 1000) {
            connection.receive_data(black_box(chunk), &mut sink);
        }
        for message in &sink.messages[..sink.count] {
            let text = std::str::from_utf8(message).expect("text");
            connection.send_text(text, true, None).expect("open");
        }
        assert_eq!(sink.bytes, size * burst);
        black_box(connection.output());
        connection.clear_output();
    };
    #[allow(clippy::cast_precision_loss)]
    let per_message = if takes_over {
        // Each message is compressed against the one before: the input cannot be read twice.
        let mut inputs = Vec::new();
        inputs.push(input);
        for _ in 0..2000 {
            client.send_text(text, true, Some(true)).expect("open");
            let mut next = Vec::new();
            client.take_output(&mut next);
            inputs.push(next);
        }
        let start = Instant::now();
        for input in &inputs {
            step(input);
        }
        start.elapsed().as_secs_f64() * 1e9 / inputs.len() as f64
    } else {
        time(|| step(&input)) / burst as f64
    };
    println!("{:<44} {per_message:>10.1} ns a message", format!("{name} {size} B, {burst} a chunk"));
}
