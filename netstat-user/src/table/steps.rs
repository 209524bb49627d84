//! The latest steps of a row, packed: a step mostly takes four to six bytes, so that a life fits into the row.
//!
//! A step is one byte for both states, and the time since the step before in groups of seven bits, the lowest first,
//! with how it is known in the first of them. The time of the last step is kept whole: what is added goes behind.

use super::{Source, row::Step};
use crate::{clock::Ktime, tcp::TcpState};

/// How many steps are remembered; the oldest go first.
pub const HISTORY: usize = 16;

/// Bytes of steps in the row itself: a connection's life, from `connect` to the end of TIME_WAIT a minute later.
const INLINE: usize = 29;

/// Steps in the order of their times.
#[derive(Debug, Clone)]
pub(super) struct Steps {
    last: Ktime,
    packed: Packed,
}

#[derive(Debug, Clone)]
enum Packed {
    Inline { count: u8, len: u8, bytes: [u8; INLINE] },
    Heap { count: u8, bytes: Vec<u8> },
}

impl Default for Steps {
    fn default() -> Self {
        Self {
            last: Ktime(0),
            packed: Packed::Inline {
                count: 0,
                len: 0,
                bytes: [0; INLINE],
            },
        }
    }
}

impl PartialEq for Steps {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Steps {}

impl Steps {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        match self.packed {
            Packed::Inline { count, .. } | Packed::Heap { count, .. } => count.into(),
        }
    }

    /// Adds a step in its place. Returns whether the oldest has been forgotten for it.
    pub(super) fn add(&mut self, step: Step) -> bool {
        let full = self.len() == HISTORY;
        if !full && (self.len() == 0 || step.time >= self.last) {
            self.append(step);
            return false;
        }
        let mut steps: Vec<Step> = self.iter().skip(usize::from(full)).collect();
        let at = steps.partition_point(|past| past.time <= step.time);
        steps.insert(at, step);
        *self = Self::default();
        for step in steps {
            self.append(step);
        }
        full
    }

    /// Adds a step that is not earlier than any other.
    fn append(&mut self, step: Step) {
        let since = if self.len() == 0 {
            0
        } else {
            step.time.0.saturating_sub(self.last.0)
        };
        let mut one = [0; LONGEST];
        let len = pack(step, since, &mut one);
        self.last = step.time;
        self.packed.extend(&one[..len]);
    }

    /// All of them, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = Step> + '_ {
        let passed: u64 = self.packed.parts().map(|part| part.since).sum();
        let mut time = self.last.0.saturating_sub(passed);
        self.packed.parts().map(move |part| {
            time += part.since;
            Step {
                time: Ktime(time),
                from: part.from,
                to: part.to,
                source: part.source,
            }
        })
    }

    /// The states that they led to.
    pub(super) fn states(&self) -> impl Iterator<Item = TcpState> + '_ {
        self.packed.parts().map(|part| part.to)
    }

    /// Gives back memory that is not used.
    pub(super) fn shrink(&mut self) {
        if let Packed::Heap { bytes, .. } = &mut self.packed {
            bytes.shrink_to_fit();
        }
    }

    /// Bytes that they take besides their own place.
    pub(super) fn heap_size(&self) -> usize {
        match &self.packed {
            Packed::Inline { .. } => 0,
            Packed::Heap { bytes, .. } => bytes.capacity(),
        }
    }
}

impl Packed {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes, .. } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Heap { bytes, .. } => bytes,
        }
    }

    /// Adds one step's bytes.
    fn extend(&mut self, one: &[u8]) {
        match self {
            Self::Inline { count, len, bytes } => {
                let end = usize::from(*len) + one.len();
                if let Some(place) = bytes.get_mut(usize::from(*len)..end) {
                    place.copy_from_slice(one);
                    *count += 1;
                    *len += u8::try_from(one.len()).unwrap_or(0);
                } else {
                    let count = *count + 1;
                    let bytes = [self.bytes(), one].concat();
                    *self = Self::Heap { count, bytes };
                }
            }
            Self::Heap { count, bytes } => {
                bytes.extend_from_slice(one);
                *count += 1;
            }
        }
    }

    fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        let mut bytes = self.bytes();
        std::iter::from_fn(move || {
            let (part, rest) = unpack(bytes)?;
            bytes = rest;
            Some(part)
        })
    }
}

/// A step, with the time since the one before.
struct Part {
    from: Option<TcpState>,
    to: TcpState,
    source: Source,
    since: u64,
}

/// Bytes that a step takes at most: the states, five bits of its time, and the other 59 in groups of seven.
const LONGEST: usize = 11;

/// Says that another group of bits follows.
const MORE: u8 = 0x80;

fn pack(step: Step, since: u64, out: &mut [u8; LONGEST]) -> usize {
    let source = match step.source {
        Source::Event => 0,
        Source::Sweep => 1,
        Source::Inferred => 2,
    };
    let from = step.from.map_or(0, |state| state as u8);
    let low = |bits: u64, mask: u8| bits.to_le_bytes()[0] & mask;
    let more = |rest: u64| if rest > 0 { MORE } else { 0 };
    let mut rest = since >> 5;
    out[0] = from << 4 | step.to as u8;
    out[1] = more(rest) | low(since, 0x1f) << 2 | source;
    let mut len = 2;
    while rest > 0 {
        let group = low(rest, 0x7f);
        rest >>= 7;
        out[len] = more(rest) | group;
        len += 1;
    }
    len
}

fn unpack(bytes: &[u8]) -> Option<(Part, &[u8])> {
    let (&states, bytes) = bytes.split_first()?;
    let (&first, mut bytes) = bytes.split_first()?;
    let source = match first & 3 {
        0 => Source::Event,
        1 => Source::Sweep,
        _ => Source::Inferred,
    };
    let mut since = u64::from(first >> 2 & 0x1f);
    let (mut more, mut shift) = (first & MORE != 0, 5);
    while more {
        let (&group, rest) = bytes.split_first()?;
        bytes = rest;
        since |= u64::from(group & !MORE) << shift;
        more = group & MORE != 0;
        shift += 7;
    }
    let part = Part {
        from: TcpState::try_from(states >> 4).ok(),
        to: TcpState::try_from(states & 0xf).ok()?,
        source,
        since,
    };
    Some((part, bytes))
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::select};

    use super::*;

    fn step() -> impl Strategy<Value = Step> {
        let time = prop_oneof![any::<u64>(), 0..1_000_000_u64, Just(5), Just(u64::MAX)];
        let states = || select(TcpState::ALL.to_vec());
        let source = select(vec![Source::Event, Source::Sweep, Source::Inferred]);
        (time, prop::option::of(states()), states(), source).prop_map(|(time, from, to, source)| Step {
            time: Ktime(time),
            from,
            to,
            source,
        })
    }

    proptest! {
        #[test]
        fn they_come_out_in_order_as_they_went_in(added in prop::collection::vec(step(), 0..40)) {
            let mut steps = Steps::default();
            let mut plain: Vec<Step> = Vec::new();
            for step in added {
                let full = plain.len() == HISTORY;
                prop_assert_eq!(steps.add(step), full);
                if full {
                    plain.remove(0);
                }
                let at = plain.partition_point(|past| past.time <= step.time);
                plain.insert(at, step);
                prop_assert_eq!(steps.iter().collect::<Vec<_>>(), plain.clone());
                prop_assert_eq!(steps.len(), plain.len());
                prop_assert!(steps.states().eq(plain.iter().map(|step| step.to)));
            }
        }
    }

    #[test]
    fn a_life_takes_no_memory_besides_the_row() {
        use TcpState::{Close, Established, FinWait1, FinWait2, SynSent, TimeWait};
        let mut steps = Steps::default();
        let mut from = Close;
        for (to, time) in [
            (SynSent, 1_000_000_000_000),
            (Established, 1_000_000_070_000),
            (FinWait1, 1_005_000_000_000),
            (FinWait2, 1_005_040_000_000),
            (TimeWait, 1_005_040_080_000),
            (Close, 1_065_040_080_000),
        ] {
            steps.add(Step {
                time: Ktime(time),
                from: Some(from),
                to,
                source: Source::Event,
            });
            from = to;
        }
        assert_eq!((steps.len(), steps.heap_size()), (6, 0));
    }
}
