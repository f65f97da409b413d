//! What both floors share: the command line and the answer to a plain request.
#![forbid(unsafe_code)]

use std::net::TcpListener;
use std::path::PathBuf;

/// The answer to a GET.
pub const PAGE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!";

/// The command line of a floor.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// Where to listen.
    pub address: String,
    /// Messages that will come, instead of those that the load generator makes by itself.
    pub payload_files: Vec<PathBuf>,
}

impl Arguments {
    /// Read the command line, without the program's name.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self { address: "127.0.0.1:8000".to_owned(), ..Self::default() };
        let mut arguments = arguments.into_iter();
        while let Some(option) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{option} lacks its value"))?;
            match option.as_str() {
                "--address" => parsed.address = value,
                "--payload-file" => parsed.payload_files.push(value.into()),
                _ => return Err(format!("there is no option {option}; there are --address and --payload-file")),
            }
        }
        Ok(parsed)
    }

    /// Begin to listen, without blocking.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn listen(&self) -> Result<TcpListener, String> {
        let listener =
            TcpListener::bind(&self.address).map_err(|error| format!("cannot listen on {}: {error}", self.address))?;
        listener.set_nonblocking(true).map_err(|error| error.to_string())?;
        Ok(listener)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_line_is_read() {
        let arguments = parse("--address 127.0.0.1:9 --payload-file a --payload-file b").expect("it is right");
        assert_eq!(arguments.address, "127.0.0.1:9");
        assert_eq!(arguments.payload_files, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!(parse("").expect("it is right").address, "127.0.0.1:8000");
    }

    #[test]
    fn a_wrong_line_is_refused() {
        for line in ["--address", "--port 80", "80"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_page_has_the_length_that_it_says() {
        let head = ferrows_loadgen::handshake::Head::parse(PAGE).expect("a head").expect("it is whole");
        assert_eq!(head.value("content-length"), Some((PAGE.len() - head.size).to_string().as_str()));
    }
}
