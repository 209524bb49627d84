//! The names of states, as words.

use super::{
    Op, StateSet, Test,
    keyword::{Keyword, keyword},
    lex::Sign,
    nearest,
    parse::Reader,
    ports::Compare,
    problem::{Fault, Problem},
};

const STATES: &str = "\
states are ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE, CLOSE_WAIT,
LAST_ACK, LISTEN and CLOSING, or what `ss` calls them and the groups that it has: all, connected,
synchronized, bucket, big";

/// States that are wanted and those that are not, one after the other as `ss` takes them: `state` adds to the ones
/// before, `exclude` takes away.
#[derive(Debug, Default)]
pub(super) struct States {
    wanted: Option<StateSet>,
    excluded: Option<StateSet>,
}

impl States {
    /// What the next words say about states, if they do.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Problem> {
        let mut states = Self::default();
        while let Some(Sign::Word(word)) = reader.peek() {
            let mut exclude = false;
            match keyword(word) {
                Some(begin @ (Keyword::State | Keyword::Exclude)) => {
                    reader.next();
                    exclude = begin == Keyword::Exclude;
                    exclude ^= is_unequal(reader);
                }
                None if StateSet::named(word).is_some() => {}
                _ => break,
            }
            let set = state_names(reader)?;
            let into = if exclude {
                &mut states.excluded
            } else {
                &mut states.wanted
            };
            *into = Some(into.unwrap_or_default().union(set));
        }
        let any = states.wanted.is_some() || states.excluded.is_some();
        Ok(any.then_some(states))
    }

    pub(super) fn write(self, ops: &mut Vec<Op>) {
        let Self { wanted, excluded } = self;
        ops.extend(wanted.map(|set| Op::Test(Test::State(set))));
        if let Some(set) = excluded {
            ops.extend([Op::Test(Test::State(set)), Op::Not]);
            ops.extend(wanted.map(|_| Op::And));
        }
    }
}

/// `NAME[,NAME…]`
fn state_names(reader: &mut Reader<'_>) -> Result<StateSet, Problem> {
    let mut all = StateSet::default();
    loop {
        let unknown = match reader.peek() {
            Some(Sign::Word(word)) => {
                let what = match nearest::one(word, StateSet::names().map(str::to_owned)) {
                    Some(state) => format!("`{word}` is no state: is it `{state}`?"),
                    None => format!("`{word}` is no state"),
                };
                Fault::new(what, STATES.to_owned())
            }
            _ => Fault::new(
                "the name of a state is missing here".to_owned(),
                STATES.to_owned(),
            ),
        };
        let unknown = reader.problem_here(unknown);
        let named = reader.take(|sign| match sign {
            Sign::Word(word) => StateSet::named(word),
            _ => None,
        });
        all = all.union(named.ok_or(unknown)?);
        if reader.take(|sign| (sign == Sign::Comma).then_some(())).is_none() {
            return Ok(all);
        }
    }
}

/// Takes `=` or `!=` away; whether it is the latter. What else compares is left, and is no name.
fn is_unequal(reader: &mut Reader<'_>) -> bool {
    let compare = reader.take(|sign| match sign {
        Sign::Compare(compare @ (Compare::Equal | Compare::Unequal)) => Some(compare),
        _ => None,
    });
    compare == Some(Compare::Unequal)
}
