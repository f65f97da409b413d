//! A load generator for WebSocket servers.
//!
//! It answers two questions about a server: how fast is it, and what does a message cost it. It runs on one thread, on
//! a core of its own, and is to cost much less than what it measures: what it sends and what it expects are prebuilt,
//! many frames leave in one write, and an answer is checked by comparing it with the bytes that were expected. Every
//! byte is checked, and a wrong one ends the run.
#![forbid(unsafe_code)]

pub mod arguments;
pub mod check;
pub mod clock;
pub mod cycle;
pub mod error;
pub mod frame;
pub mod handshake;
pub mod histogram;
pub mod link;
pub mod meter;
pub mod opening;
pub mod outbound;
pub mod payload;
pub mod poller;
pub mod process;
pub mod report;
pub mod scenario;
pub mod schedule;
