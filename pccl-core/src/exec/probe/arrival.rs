//! What came of one peer's load, or went out to it, and when.

use crate::types::Time;

/// Bytes are counted by such stretches of time.
const SLOT_US: u64 = 5_000;
/// No load lasts so long: what comes later is not counted.
const MAX_SLOTS: u64 = 2_000;
/// The rate is that of the bytes between these parts of all, in percent. What comes before is slower, as senders and their
/// algorithms for congestion have yet to find the rate; what comes after is a tail of what was lost on the way, which may take
/// as long as all the rest.
const COUNTED_PERCENT: [u64; 2] = [40, 90];

/// Evenness is looked for in windows of so much time and so many bytes: a few packets are not even.
const MIN_WINDOW_US: u64 = 25_000;
const MIN_WINDOW_BYTES: u64 = 48 << 10;
/// Windows within so much of each other are alike.
const ALIKE_PERCENT: u64 = 110;
/// And above the hull's rate by this they are a burst.
const HULL_PERCENT: u64 = 115;

#[derive(Debug, Default)]
pub(super) struct Arrival {
    first: Option<Time>,
    last: Time,
    /// Bytes in each stretch since that of the first. The first bytes themselves began their way before.
    slots: Vec<u64>,
    ends: u32,
    ends_due: Option<u32>,
}

impl Arrival {
    pub fn add(&mut self, bytes: usize, now: Time) {
        let Some(first) = self.first else {
            self.first = Some(now);
            self.last = now;
            return;
        };
        let slot = slot(now).saturating_sub(slot(first));
        if slot >= MAX_SLOTS {
            return;
        }
        if self.slots.len() as u64 <= slot {
            self.slots.resize(slot as usize + 1, 0);
        }
        self.slots[slot as usize] += bytes as u64;
        self.last = now;
    }

    /// One of `of` connections carries no more.
    pub fn end(&mut self, of: u32) {
        self.ends = self.ends.saturating_add(1);
        self.ends_due = Some(of);
    }

    pub fn is_over(&self) -> bool {
        self.ends_due.is_some_and(|of| self.ends >= of)
    }

    /// Bytes a second in this stretch of time; over all of it where there is none, or it is too short to tell. 0 if too
    /// little came.
    fn bytes_per_second(&self, counted: Option<Span>) -> u64 {
        let Some(first) = self.first else { return 0 };
        let Some(Span { begin, end }) = counted.filter(|span| span.end > span.begin) else {
            return rate(self.slots.iter().sum(), self.last.since_us(first));
        };
        let own_begin = slot(first);
        let at = |slot: u64| (slot.saturating_sub(own_begin) as usize).min(self.slots.len());
        let bytes = self.slots[at(begin)..at(end)].iter().sum();
        rate(bytes, (end - begin) * SLOT_US)
    }

    /// From its beginning to its tail.
    fn counted(&self) -> Option<Span> {
        let begin = slot(self.first?);
        let [from, to] = COUNTED_PERCENT.map(|percent| begin + self.slots_until(percent));
        Some(Span { begin: from, end: to })
    }

    /// What the path carries, as far as one flow alone tells. Bytes come no sooner than the path brings them, but later where
    /// one before them was lost: little for a while, then much at once, and twice the path's rate for as long as every
    /// second packet that comes fills a gap. What a full path carries it carries evenly, so its rate is the one at which
    /// most bytes came, of those that the hull allows.
    fn path_bytes_per_second(&self) -> u64 {
        let Some(hull) = self.hull_bytes_per_second() else { return self.bytes_per_second(None) };
        let width_us = (MIN_WINDOW_BYTES * 1_000_000).div_ceil(hull.max(1)).max(MIN_WINDOW_US);
        let width = width_us.div_ceil(SLOT_US) as usize;
        let most = hull.saturating_mul(SLOT_US * width as u64) / 1_000_000 * HULL_PERCENT / 100;
        let mut windows: Vec<u64> = self.slots.windows(width).map(|slots| slots.iter().sum()).collect();
        windows.retain(|bytes| (1..=most).contains(bytes));
        windows.sort_unstable();
        match densest(&windows) {
            Some(bytes) => rate(bytes, width as u64 * SLOT_US),
            None => hull,
        }
    }

    /// The path's line is the one that the sum of what has come touches from below, so the rate cannot be much above that of the
    /// sum's upper hull, past the beginning, at the middle of the bytes.
    fn hull_bytes_per_second(&self) -> Option<u64> {
        let begin = self.slots_until(COUNTED_PERCENT[0]) as usize;
        let mut come = 0;
        let mut hull = vec![(0, 0)];
        for (slots, bytes) in (1..).zip(&self.slots[begin..]) {
            come += bytes;
            while let [.., a, b] = hull[..]
                && is_below(a, b, (slots, come))
            {
                hull.pop();
            }
            hull.push((slots, come));
        }
        // The steepest first: a beginning below the line; the flattest, the tail, last.
        let middle = hull.windows(2).find(|ends| ends[1].1 * 2 >= come)?;
        let [(from, before), (to, after)] = [middle[0], middle[1]];
        (after > before).then(|| rate(after - before, (to - from) * SLOT_US))
    }

    /// After so many stretches this part of all had come.
    fn slots_until(&self, percent: u64) -> u64 {
        let total: u64 = self.slots.iter().sum();
        let mut come = 0;
        let is_less = |bytes: &&u64| {
            come += **bytes;
            u128::from(come) * 100 < u128::from(total) * u128::from(percent)
        };
        let less = self.slots.iter().take_while(is_less).count();
        (less + 1).min(self.slots.len()) as u64
    }
}

/// The rates of one flow alone, or of flows that share a machine's link. Those all within the same time: where one ends
/// early the others get more, and rates of different times add up to more than the link carries. The time is the median of
/// what each would count for itself, so a peer that sends out of turn does not choose it.
pub(super) fn rates(flows: &[&Arrival]) -> Vec<u64> {
    if let [alone] = flows {
        return vec![alone.path_bytes_per_second()];
    }
    let own: Vec<Span> = flows.iter().filter_map(|flow| flow.counted()).collect();
    let common = (!own.is_empty()).then(|| Span {
        begin: median(own.iter().map(|span| span.begin)),
        end: median(own.iter().map(|span| span.end)),
    });
    flows.iter().map(|flow| flow.bytes_per_second(common)).collect()
}

/// Stretches of `SLOT_US`, by number since the clock's zero.
#[derive(Clone, Copy, Debug)]
struct Span {
    begin: u64,
    end: u64,
}

fn slot(time: Time) -> u64 {
    time.0 / SLOT_US
}

/// The mean of those alike that are the most together. They come sorted.
fn densest(sorted: &[u64]) -> Option<u64> {
    let (mut end, mut sum) = (0, 0);
    let mut best = None;
    for (begin, least) in sorted.iter().enumerate() {
        while let Some(next) = sorted.get(end)
            && u128::from(*next) * 100 <= u128::from(*least) * u128::from(ALIKE_PERCENT)
        {
            sum += next;
            end += 1;
        }
        if best.is_none_or(|(most, _)| sum > most) {
            best = Some((sum, sum / (end - begin) as u64));
        }
        sum -= least;
    }
    best.map(|(_, mean)| mean)
}

/// Whether b lies on or below the line from a to c: bytes over stretches of time.
fn is_below(a: (u64, u64), b: (u64, u64), c: (u64, u64)) -> bool {
    let rise = |to: (u64, u64), run: (u64, u64)| u128::from(to.1 - a.1) * u128::from(run.0 - a.0);
    rise(b, c) <= rise(c, b)
}

/// The upper one of two. Of at least one.
fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values[values.len() / 2]
}

fn rate(bytes: u64, span_us: u64) -> u64 {
    if span_us == 0 { 0 } else { (u128::from(bytes) * 1_000_000 / u128::from(span_us)) as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(bytes_at_us: &[(usize, u64)]) -> Arrival {
        let mut arrival = Arrival::default();
        for (bytes, at) in bytes_at_us {
            arrival.add(*bytes, Time(1_000_000 + at));
        }
        arrival
    }

    fn alone(bytes_at_us: &[(usize, u64)]) -> u64 {
        rates(&[&arrival(bytes_at_us)])[0]
    }

    /// A link of 3 kB a millisecond. Of three flows one gets what the others leave, and goes on when they are over.
    #[test]
    fn flows_that_share_a_link_add_up_to_it() {
        let even: Vec<_> = (0..800u64).map(|ms| (1200, ms * 1000)).collect();
        let late = (0..800u64).map(|ms| (600, ms * 1000)).chain((800..1000u64).map(|ms| (3000, ms * 1000)));
        let late: Vec<_> = late.collect();
        let flows = [&arrival(&even), &arrival(&late), &arrival(&even)];
        let own: u64 = flows.iter().map(|flow| flow.bytes_per_second(flow.counted())).sum();
        assert!(own > 3_200_000, "each in its own time: {own}");
        let together: u64 = rates(&flows).iter().sum();
        assert!((2_980_000..=3_020_000).contains(&together), "{together}");
    }

    /// An hour before the round, and a thousand times as much.
    #[test]
    fn one_that_sends_out_of_turn_does_not_choose_the_time() {
        let (good, bad) = (0..400u64, 0..400u64);
        let good: Vec<_> = good.map(|ms| (1000, 3_600_000_000 + ms * 1000)).collect();
        let bad: Vec<_> = bad.map(|ms| (1_000_000, ms * 1000)).collect();
        let rates = rates(&[&arrival(&bad), &arrival(&good), &arrival(&good)]);
        assert!((990_000..=1_010_000).contains(&rates[1]), "{rates:?}");
        assert_eq!(rates[0], 0, "of another time");
    }

    #[test]
    fn a_slow_beginning_does_not_count() {
        // A hundredth of the rate for 200 ms, then 1 MB/s.
        let slow = (0..200u64).map(|ms| (10, ms * 1000));
        let fast = (200..400u64).map(|ms| (1000, ms * 1000));
        let all: Vec<_> = slow.chain(fast).collect();
        let rate = alone(&all);
        assert!((990_000..=1_010_000).contains(&rate), "{rate}");
    }

    /// Lost packets hold up what comes after them, in the beginning and in the middle of what counts.
    #[test]
    fn what_was_held_up_and_comes_at_once_does_not_count_twice() {
        for held in [380..450u64, 500..600, 500..700, 390..480] {
            let come = (0..800u64).filter(|ms| !held.contains(ms)).map(|ms| (1000, ms * 1000));
            let burst = (1000 * (held.end - held.start) as usize, held.end * 1000);
            let mut all: Vec<_> = come.chain([burst]).collect();
            all.sort_by_key(|(_, at)| *at);
            let rate = alone(&all);
            assert!((970_000..=1_030_000).contains(&rate), "{held:?}: {rate}");
        }
    }

    /// Half of a burst was lost, and is sent again: each packet that comes lets the next one, long here, be read, too.
    #[test]
    fn gaps_that_are_filled_do_not_count_twice() {
        let even = |range: std::ops::Range<u64>, bytes| range.map(move |ms| (bytes, ms * 1000));
        let all = even(0..150, 1000)
            .chain(even(150..400, 200))
            .chain(even(400..550, 2000))
            .chain(even(550..900, 1000));
        let rate = alone(&all.collect::<Vec<_>>());
        assert!((970_000..=1_030_000).contains(&rate), "{rate}");
    }

    /// A packet each 12 ms.
    #[test]
    fn a_slow_path_is_told_from_few_packets() {
        let all: Vec<_> = (0..66u64).map(|n| (1448, n * 12_000)).collect();
        let rate = alone(&all);
        assert!((114_000..=128_000).contains(&rate), "{rate}");
    }

    /// One lost packet of the last ones, sent again a second later.
    #[test]
    fn a_tail_does_not_count() {
        let load = (0..800u64).map(|ms| (1000, ms * 1000));
        let tail = (0..20u64).map(|ms| (1000, (1800 + ms) * 1000));
        let all: Vec<_> = load.chain(tail).collect();
        let rate = alone(&all);
        assert!((990_000..=1_010_000).contains(&rate), "{rate}");
    }

    #[test]
    fn what_comes_within_one_stretch_counts_as_a_whole() {
        assert_eq!(alone(&[(1, 0), (1000, 1000), (1000, 2000)]), 1_000_000);
    }

    #[test]
    fn too_little_says_nothing() {
        assert_eq!(rates(&[&Arrival::default()])[0], 0);
        assert_eq!(alone(&[(1 << 20, 0)]), 0, "no time has passed");
        assert_eq!(alone(&[(1 << 20, 0), (1 << 20, 0)]), 0);
    }

    #[test]
    fn what_comes_too_late_takes_no_memory() {
        let mut arrival = arrival(&[(1, 0), (1, 1)]);
        arrival.add(1, Time(u64::MAX));
        assert_eq!(arrival.slots.len(), 1);
    }

    #[test]
    fn it_is_over_when_all_connections_have_ended() {
        let mut arrival = Arrival::default();
        assert!(!arrival.is_over());
        arrival.end(2);
        assert!(!arrival.is_over());
        arrival.end(2);
        assert!(arrival.is_over());
    }
}
