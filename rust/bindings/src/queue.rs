//! The queue of what arrived and waits for the handler.

use crate::inbox::Item;
use std::cell::Cell;
use std::collections::VecDeque;

/// Items for which the memory of an empty queue is kept.
const KEPT: usize = 256;

/// Items in order of arrival. An empty queue holds no memory: its thread keeps it for the queue that fills next. There is
/// something in it otherwise, unless it was opened to add to it.
#[derive(Default)]
pub struct Queue(Option<Box<Waiting>>);

#[derive(Default)]
struct Waiting {
    items: VecDeque<Item>,
    bytes: usize,
}

thread_local! {
    static SPARE: Cell<Option<Box<Waiting>>> = const { Cell::new(None) };
}

impl Queue {
    #[inline]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.items.len())
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Payload in bytes.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.bytes)
    }

    pub fn front(&self) -> Option<&Item> {
        self.0.as_ref()?.items.front()
    }

    #[inline]
    pub fn pop_front(&mut self) -> Option<Item> {
        let waiting = self.0.as_mut()?;
        let item = waiting.items.pop_front()?;
        waiting.bytes -= item.size();
        self.give_back();
        Some(item)
    }

    pub fn push_front(&mut self, item: Item) {
        let (items, bytes) = self.open();
        *bytes += item.size();
        items.push_front(item);
    }

    /// The items and their payload in bytes, to add to them. [`Self::give_back`] comes after that.
    #[inline]
    pub fn open(&mut self) -> (&mut VecDeque<Item>, &mut usize) {
        let waiting = self.0.get_or_insert_with(|| SPARE.try_with(Cell::take).ok().flatten().unwrap_or_default());
        (&mut waiting.items, &mut waiting.bytes)
    }

    /// Give the memory back if nothing waits.
    #[inline]
    pub fn give_back(&mut self) {
        if self.0.as_ref().is_some_and(|waiting| waiting.items.is_empty()) {
            // A thread that is ending has no place for it any more; then it is freed.
            let kept = self.0.take().filter(|waiting| waiting.items.capacity() <= KEPT);
            let _ = SPARE.try_with(|spare| spare.set(kept));
        }
    }
}
