//! Sequential readers of a file, several at once, and how far to read ahead of them.

use alloc::vec::Vec;
use core::ops::Range;

/// Readers of one file that are told apart.
const MAXIMUM: usize = 4;
/// Bytes that are read ahead of a new reader; twice as many with each step, up to the cache's limit.
const FIRST_WINDOW: u64 = 128 << 10;
/// A reader with several requests in flight may be seen out of order by so many bytes.
const SLACK: u64 = 1 << 20;

#[derive(Clone, Copy)]
struct Stream {
    /// Where the reader would go on.
    next: u64,
    /// Up to where was read ahead.
    ahead: u64,
    /// Bytes to be ahead of `next`; 0 for one that has yet to show that it goes on.
    window: u64,
    /// When it was seen last.
    used: u32,
}

/// The readers of one file.
#[derive(Clone)]
pub(super) struct Streams {
    list: Vec<Stream>,
    clock: u32,
}

impl Streams {
    pub(super) const fn new() -> Self {
        Self { list: Vec::new(), clock: 0 }
    }

    /// Notes a read of bytes `start..end`; answers what should be read ahead now, with windows of up to `most` bytes.
    pub(super) fn advance(&mut self, start: u64, end: u64, most: u64) -> Range<u64> {
        self.clock = self.clock.wrapping_add(1);
        let used = self.clock;
        // Of a new reader, only the very next requests are believed to be its own.
        let follows = |stream: &&mut Stream| {
            let slack = if stream.window > 0 { SLACK } else { end.saturating_sub(start) * 2 };
            start.abs_diff(stream.next) <= slack
        };
        let stream = match self.list.iter_mut().find(follows) {
            Some(stream) => stream,
            None => {
                // Who starts at the start probably goes on.
                let window = if start == 0 { FIRST_WINDOW } else { 0 };
                self.enter(Stream { next: end, ahead: end, window, used });
                return if window > 0 { self.step(used, most) } else { 0..0 };
            }
        };
        stream.used = used;
        stream.next = stream.next.max(end);
        stream.ahead = stream.ahead.max(stream.next);
        if stream.window == 0 {
            stream.window = FIRST_WINDOW;
        }
        // The next step when half of the last one is used up.
        if stream.ahead - stream.next <= stream.window / 2 { self.step(used, most) } else { 0..0 }
    }

    /// Reads ahead for the stream seen at `used`, and widens its window.
    fn step(&mut self, used: u32, most: u64) -> Range<u64> {
        let Some(stream) = self.list.iter_mut().find(|stream| stream.used == used) else { return 0..0 };
        let from = stream.ahead;
        stream.window = stream.window.min(most);
        stream.ahead = stream.next.saturating_add(stream.window).max(from);
        stream.window = stream.window.saturating_mul(2).min(most);
        from..stream.ahead
    }

    /// Takes a stream in; when there are too many, in the place of one that never went on, or of the oldest.
    fn enter(&mut self, stream: Stream) {
        if self.list.len() < MAXIMUM && self.list.try_reserve(1).is_ok() {
            self.list.push(stream);
            return;
        }
        let age = |old: &Stream| stream.used.wrapping_sub(old.used);
        let worst = self.list.iter_mut().max_by_key(|old| (old.window == 0, age(old)));
        if let Some(worst) = worst {
            *worst = stream;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 4 << 20;

    #[test]
    fn a_stream_is_kept_ahead_of_with_a_growing_window() {
        let mut streams = Streams::new();
        let mut ahead = 0;
        let mut steps = std::vec![];
        for number in 0..1000u64 {
            let range = streams.advance(number * 65536, (number + 1) * 65536, MOST);
            if !range.is_empty() {
                assert_eq!(range.start, ahead.max((number + 1) * 65536));
                ahead = range.end;
                steps.push(range.end - range.start);
            }
            assert!(ahead > (number + 1) * 65536);
        }
        assert!(ahead - (1000 << 16) >= MOST / 2);
        assert!(steps.len() < 40, "{steps:?}");
    }

    #[test]
    fn random_reads_read_nothing_ahead_and_disturb_no_stream() {
        let mut streams = Streams::new();
        let mut random = crate::test_devices::Generator::new(5);
        let mut asked = 0;
        for _ in 0..500 {
            let start = (1 + random.below(100_000)) << 20;
            assert!(streams.advance(start, start + 4096, MOST).is_empty());
        }
        for number in 0..400u64 {
            // Two streams, one of whose requests come in pairs out of order, and noise.
            for start in [number << 16, (1 << 40) + ((number ^ 1) << 16)] {
                asked += u32::from(!streams.advance(start, start + 65536, MOST).is_empty());
            }
            for _ in 0..2 {
                let start = (1 + random.below(100_000)) << 22;
                assert!(streams.advance(start, start + 4096, MOST).is_empty());
            }
        }
        assert!(asked > 8, "{asked}");
        let streams = streams.list.iter().filter(|stream| stream.window == MOST).count();
        assert_eq!(streams, 2);
    }
}
