//! Target `head`: the guard in front of the handshake, whole against split and against another parser (RFC 9112).

use crate::input::{Cut, Input};
use crate::memory;
use ferrows_core::{Head, HeadReader, Limits, METHODS};

/// What a reader answered: the head with its bytes and what lies behind it, the refusal, or nothing yet.
#[derive(Debug, PartialEq)]
enum Verdict {
    Head(Head, Vec<u8>, Vec<u8>),
    Refused(u16, String),
    More,
}

/// Read what follows the first three bytes as a head, under limits that the first chooses.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let limits = input.one(&[
        Limits { target: 8190, header_size: 8192, headers: 100 },
        Limits { target: 40, header_size: 100, headers: 5 },
        Limits { target: 1, header_size: 0, headers: 0 },
    ]);
    let seed = input.pair().into();
    let bytes = input.rest();
    let whole = feed(bytes, limits, Cut::Whole);
    for cut in [Cut::Bytes, Cut::Pieces(seed)] {
        assert_eq!(feed(bytes, limits, cut), whole, "{cut:?}");
    }
    match whole {
        Verdict::Head(head, raw, rest) => {
            check_head(&head, &raw, limits);
            let blank = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
            assert_eq!([raw, rest].concat(), bytes[blank..], "no byte is lost");
        }
        Verdict::Refused(status, message) => {
            assert!([400, 414, 417, 431, 501, 505].contains(&status), "{status}");
            assert!(message.bytes().all(|octet| (0x20..0x7F).contains(&octet)), "{message:?}");
        }
        Verdict::More => {}
    }
}

fn feed(bytes: &[u8], limits: Limits, mut cut: Cut) -> Verdict {
    let start = memory::held();
    let mut reader = HeadReader::new(limits);
    let (mut fed, mut verdict) = (0, Verdict::More);
    cut.apply(bytes, |piece| {
        fed += piece.len();
        if let Verdict::Head(_, _, rest) = &mut verdict {
            rest.extend(piece);
            return;
        }
        if let Verdict::Refused(..) = verdict {
            return;
        }
        let received = reader.receive_data(piece);
        assert!(reader.started());
        match received {
            Ok(None) => {
                let pinned = memory::held() - start;
                assert!(pinned <= isize::try_from(2 * fed + 4096).expect("small"), "{pinned} bytes after {fed}");
                assert!(bytes[..fed].ends_with(reader.received()), "what has arrived is kept as it is");
            }
            Ok(Some(found)) => verdict = Verdict::Head(found.head, found.raw.into_owned(), found.rest.to_vec()),
            Err(error) => verdict = Verdict::Refused(error.status, error.to_string()),
        }
    });
    verdict
}

/// What was accepted is within its limits, and another parser reads the same out of it.
fn check_head(head: &Head, raw: &[u8], limits: Limits) {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut headers);
    let size = request.parse(raw).expect("httparse accepts what we accept");
    assert_eq!(size, httparse::Status::Complete(raw.len()), "the head ends where ours does");
    assert_eq!(request.method, Some(METHODS[head.method()]));
    assert_eq!(request.path.map(str::as_bytes), Some(head.target(raw)));
    assert_eq!(request.version, Some(u8::from(head.http_1_1)));
    let fields: Vec<_> = head.fields(raw).collect();
    let others: Vec<_> = request.headers.iter().map(|header| (header.name.as_bytes(), header.value)).collect();
    assert_eq!(fields, others);

    assert!(head.target(raw).len() <= limits.target);
    assert!(fields.len() <= limits.headers);
    assert!(!(head.chunked && head.content_length > 0), "one body, one length");
    assert!(!head.websocket || METHODS[head.method()] == "GET");
    assert!(!head.websocket || head.http_1_1);
    // RFC 9112 §3.2: a request of HTTP/1.1 has one Host.
    let hosts = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"host")).count();
    assert!(hosts == 1 || (hosts == 0 && !head.http_1_1), "{hosts} hosts");
}
