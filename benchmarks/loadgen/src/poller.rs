//! Waiting for sockets: epoll.

use std::os::fd::{AsFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::error::Error;

/// Events that one wait returns at the most.
const BATCH: usize = 1024;

/// What to wait for on a socket. Reading is always waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// That there is something to read, or the end.
    Read,
    /// The same, or that there is room to write.
    ReadWrite,
}

/// What a socket is ready for; after an error both.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The token that the socket was added with.
    pub token: usize,
    /// There is something to read, the end, or an error.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
}

/// An epoll instance, level-triggered.
pub struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poller {
    /// Make one.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new() -> Result<Self, Error> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|error| Error::Io("cannot make an epoll instance", error.into()))?;
        Ok(Self { epoll, events: Vec::with_capacity(BATCH) })
    }

    /// Wait for a socket from now on, until it is closed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn add(&self, socket: impl AsFd, token: usize, interest: Interest) -> Result<(), Error> {
        epoll::add(&self.epoll, socket, epoll::EventData::new_u64(token as u64), flags(interest))
            .map_err(|error| Error::Io("cannot add a socket to epoll", error.into()))
    }

    /// Change what to wait for.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn modify(&self, socket: impl AsFd, token: usize, interest: Interest) -> Result<(), Error> {
        epoll::modify(&self.epoll, socket, epoll::EventData::new_u64(token as u64), flags(interest))
            .map_err(|error| Error::Io("cannot change a socket of epoll", error.into()))
    }

    /// Wait for a socket no more.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(&self, socket: impl AsFd) -> Result<(), Error> {
        epoll::delete(&self.epoll, socket).map_err(|error| Error::Io("cannot remove a socket from epoll", error.into()))
    }

    /// Wait for so many nanoseconds at the most, without an end if `None`; put into `ready` what is ready.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn wait(&mut self, nanoseconds: Option<u64>, ready: &mut Vec<Event>) -> Result<(), Error> {
        let timeout = nanoseconds.map(|nanoseconds| Timespec {
            tv_sec: i64::try_from(nanoseconds / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: (nanoseconds % 1_000_000_000).try_into().unwrap_or(0),
        });
        ready.clear();
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::Io("cannot wait for sockets", error.into())),
        }
        ready.extend(self.events.iter().map(|event| {
            let flags = event.flags;
            Event {
                token: usize::try_from(event.data.u64()).unwrap_or(usize::MAX),
                readable: flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR),
                writable: flags.intersects(epoll::EventFlags::OUT | epoll::EventFlags::ERR),
            }
        }));
        Ok(())
    }
}

fn flags(interest: Interest) -> epoll::EventFlags {
    match interest {
        Interest::Read => epoll::EventFlags::IN,
        Interest::ReadWrite => epoll::EventFlags::IN | epoll::EventFlags::OUT,
    }
}
