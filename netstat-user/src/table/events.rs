//! Folding events.
//!
//! An event is about a full sock, and a connection outlives that at both ends. Before it: a child is
//! announced as LISTEN → SYN_RECV, and kernels up to 6.12 do so before the child has a cookie and remote end
//! of its own. After it: a socket that goes to CLOSE may have left a minisock behind, in TIME_WAIT or in
//! FIN_WAIT2 (`tcp_time_wait`).

use std::time::Duration;

use super::{
    End, Ending, Table,
    row::{Row, Step},
    same_ends,
    slots::Place,
    transition::{Source, Transition},
};
use crate::{
    clock::Ktime,
    connection::{Connection, Cookie, Netns},
    facts::{Form, Occurrence, StateEvent},
    reason::{Cause, FollowUp, Reason, fatal_error, is_in_order, may_leave_fin_wait2, of_event},
    tcp::TcpState::{self, Close, Closing, FinWait2, LastAck, Listen, SynRecv, TimeWait},
};

/// More children than this are never between their first event and their second.
const MOST_UNBORN: usize = 65_536;
/// Without TCP Fast Open a child's next event comes at once.
const HANDSHAKE: Duration = Duration::from_millis(50);

/// The announcement of a child under its listener's cookie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Birth {
    pub(super) time: Ktime,
    pub(super) netns: Netns,
}

/// What has become of a connection once its event is over.
#[derive(Clone, Copy)]
enum After {
    /// A full sock in this state.
    Open(TcpState),
    /// A minisock in this state.
    Minisock(TcpState),
    /// A minisock in this state, of which a hook has told.
    KnownMinisock(TcpState),
    /// Nothing.
    Gone,
}

impl After {
    /// Where `event` leaves the connection; `reset_sent` says whether a RST was sent before it, in the same state.
    fn of(event: &StateEvent, reset_sent: bool) -> Self {
        match (event.from, event.to, is_in_order(event)) {
            (_, to, _) if to != Close => Self::Open(to),
            // `tcp_fin` in FIN_WAIT2 and `tcp_rcv_state_process` in CLOSING: `tcp_time_wait(TCP_TIME_WAIT)`.
            (FinWait2 | Closing, _, Some(true)) => Self::Minisock(TimeWait),
            // Old recordings do not have what the event says besides.
            (Closing, _, None) if fatal_error(event).is_none() => Self::Minisock(TimeWait),
            // `tcp_keepalive_timer` has given up an orphan.
            (FinWait2, _, _) if reset_sent => Self::Gone,
            // `__tcp_close`, `tcp_rcv_state_process` and `tcp_keepalive_timer`: an orphan waits for the peer's FIN as a
            // minisock, `tcp_time_wait(TCP_FIN_WAIT2)`, unless `TCP_LINGER2` forbids it.
            (FinWait2, _, _) if may_leave_fin_wait2(event) => Self::Minisock(FinWait2),
            // A reset, a timeout, `ss -K`, an abort by `close` or `connect`: no minisock.
            _ => Self::Gone,
        }
    }
}

impl Table {
    /// Where `event` leaves the connection, by what hooks have told of its minisock; without hooks, or if they came
    /// too late for this socket, by what the event itself says.
    fn after(&mut self, place: Place, event: &StateEvent, known: bool) -> After {
        if event.to != Close {
            return After::Open(event.to);
        }
        match self.take_newborn(event).map(|newborn| newborn.state) {
            Some(Some(state)) => After::KnownMinisock(state),
            Some(None) => After::Gone,
            None if known && self.coverage().minisocks => After::Gone,
            None => {
                let row = self.store.at(place);
                After::of(event, row.is_some_and(|row| row.has_seen(Occurrence::ResetSent)))
            }
        }
    }

    /// Folds one event; the steps that follow from it are added to `out`.
    ///
    /// Events of one socket come in their order; one that is older than what a sweep has shown since is
    /// reported and kept in the history, but does not turn the row back.
    pub fn apply_event(&mut self, event: &StateEvent, out: &mut Vec<Transition>) {
        if self.is_to_wait(event, out) {
            return;
        }
        self.fold(event, None, out);
    }

    /// Folds an event; `follow_up` is what the kernel sent right after it, if that is known.
    pub(super) fn fold(
        &mut self,
        event: &StateEvent,
        follow_up: Option<FollowUp>,
        out: &mut Vec<Transition>,
    ) {
        if (event.from, event.to) == (Listen, SynRecv) {
            self.birth(event, out);
            return;
        }
        if !self.unborn.is_empty()
            && let Some(birth) = self.unborn.remove(&event.skaddr)
            && event.from == SynRecv
            && !self.is_rivals(event)
        {
            self.child(event, birth.time, out);
        }
        match (event.from, event.to) {
            (Listen, Close) => self.ended_listeners.heard(event.connection.netns, event.time),
            (_, Close) => {}
            (Close, _) => self.doubt_minisock(&event.connection),
            _ => self.replace_minisock(&event.connection, event.time, out),
        }
        if self.is_rivals(event) {
            return;
        }
        let place = self.store.find(event.connection.cookie);
        match place.and_then(|place| Some((place, self.store.at(place)?))) {
            Some((place, row)) if row.last_fact > event.time => self.late(place, event, out),
            Some((_, row)) if event.from == Close && row.state != Close => self.begin_again(event, out),
            // The event that it was used again has been lost.
            Some((_, row)) if row.form == Form::Minisock && event.to != Close => self.begin_again(event, out),
            Some((place, _)) => self.step(place, event, follow_up, out),
            None => self.first(event, out),
        }
    }

    /// A child of a listener. Up to 6.12 `inet_csk_clone_lock` announces it as a copy of its listener, cookie
    /// included; the missing remote port gives that away, and the child is known by its address until the
    /// next event.
    fn birth(&mut self, event: &StateEvent, out: &mut Vec<Transition>) {
        if event.connection.remote.port().is_some() {
            if self.is_past_handshake(event) {
                return;
            }
            self.replace_minisock(&event.connection, event.time, out);
            self.child(event, event.time, out);
            return;
        }
        if self.unborn.len() >= MOST_UNBORN {
            self.unborn.clear();
        }
        let birth = Birth {
            time: event.time,
            netns: event.connection.netns,
        };
        self.unborn.insert(event.skaddr, birth);
    }

    /// Whether a child was announced a while before `now` that has no row yet, since its cookie is not known: with TCP
    /// Fast Open its next event can be long in coming, and a sweep finds it.
    #[must_use]
    pub fn is_expecting(&self, now: Ktime) -> bool {
        let mut births = self.unborn.values();
        births.any(|birth| birth.time.plus(HANDSHAKE) < now)
    }

    /// Whether the connection that `event` is about has completed its handshake, as far as the table knows.
    fn is_past_handshake(&self, event: &StateEvent) -> bool {
        let row = self.store.get(event.connection.cookie);
        row.is_some_and(|row| {
            let handshake = matches!(row.state, SynRecv | Close);
            row.form == Form::Full && !handshake && same_ends(&row.connection, &event.connection)
        })
    }

    /// Whether `event` is the end of a second child of one handshake: when two CPUs complete it at once, both make one, with the
    /// cookie of the request sock if it has one, and the one that comes too late is closed
    /// (`inet_ehash_nolisten`, `own_req`).
    fn is_rivals(&self, event: &StateEvent) -> bool {
        (event.from, event.to) == (SynRecv, Close) && self.is_past_handshake(event)
    }

    fn child(&mut self, event: &StateEvent, born: Ktime, out: &mut Vec<Transition>) {
        let place = self.store.find(event.connection.cookie);
        let known = place.filter(|place| {
            self.store.change(*place, |row| {
                // A sweep may have seen it as a request sock: it has been in SYN_RECV since then.
                let same = row.state == SynRecv && same_ends(&row.connection, &event.connection);
                if same {
                    row.become_full();
                    row.last_fact = born;
                    describe(row, event);
                }
                same
            }) == Some(true)
        });
        if let Some(place) = known {
            self.inherit(place);
            return;
        }
        let mut row = Row::begun(event.connection, Listen, born);
        row.inherit(self.owners_by_listener(&event.connection));
        describe(&mut row, event);
        let transition = super::transition(&row, born, Some(Listen), SynRecv, Source::Event);
        // How long the listener has listened is not how long the child has.
        out.push(Transition {
            in_state: None,
            at_least: false,
            ..transition
        });
        row.enter(
            Step {
                time: born,
                from: Some(Listen),
                to: SynRecv,
                source: Source::Event,
            },
            false,
        );
        self.store.insert(row);
    }

    /// A new connection has the ends of a minisock: the kernel has ended that one, unannounced
    /// (`tcp_timewait_state_process`, `__inet_check_established`).
    pub(super) fn replace_minisock(
        &mut self,
        connection: &Connection,
        time: Ktime,
        out: &mut Vec<Transition>,
    ) {
        if let Some(tuple) = connection.tuple()
            && let Some(old) = self.store.minisock(&tuple)
            && !self.is_of(old, connection.cookie)
        {
            let end = End {
                time,
                source: Source::Inferred,
                cause: Cause::Taken,
                earliest: None,
            };
            self.end(old, end, out);
        }
    }

    /// Whether a row is the one that this cookie finds.
    fn is_of(&self, place: Place, cookie: Cookie) -> bool {
        let row = self.store.at(place);
        row.is_some_and(|row| row.connection.cookie == cookie && !row.is_left())
    }

    /// A socket with a port of its choice begins to connect to where a minisock is connected already. Only after
    /// it has announced that does the kernel look whether the minisock is old enough to be replaced
    /// (`inet_hash_connect`); so the next event says, or a sweep.
    fn doubt_minisock(&mut self, connection: &Connection) {
        // Where hooks tell, one that is replaced is announced (`inet_twsk_deschedule_put`).
        if self.coverage().minisocks {
            return;
        }
        if let Some(tuple) = connection.tuple()
            && let Some(old) = self.store.minisock(&tuple)
        {
            self.store.change(old, |row| row.confirm(false));
        }
    }

    /// The first that is heard of a socket.
    fn first(&mut self, event: &StateEvent, out: &mut Vec<Transition>) {
        if self
            .departed
            .get(&event.connection.cookie)
            .is_some_and(|&gone| gone > event.time)
        {
            // What is older than the row's end has nothing to add.
            return;
        }
        let mut row = Row::begun(event.connection, event.from, event.time);
        // Nobody knows how long it was in the state that it leaves.
        row.set_at_least();
        let place = self.store.insert(row);
        let after = self.after(place, event, false);
        self.step_with(place, event, after, None, out, |transition| Transition {
            in_state: None,
            at_least: false,
            ..transition
        });
    }

    /// A socket that has been disconnected and is used again: the row that it still has is of a connection
    /// before. If that has left a minisock, it stays, with the same cookie (`tcp_disconnect` keeps it).
    fn begin_again(&mut self, event: &StateEvent, out: &mut Vec<Transition>) {
        let cookie = event.connection.cookie;
        let left = self
            .store
            .get(cookie)
            .is_some_and(|row| row.form == Form::Minisock);
        if left {
            self.store.leave_behind(cookie);
        } else {
            let end = End {
                time: event.time,
                source: Source::Inferred,
                cause: Cause::Unknown,
                earliest: None,
            };
            if let Some(place) = self.store.find(cookie) {
                self.end(place, end, out);
            }
        }
        self.first(event, out);
    }

    fn step(
        &mut self,
        place: Place,
        event: &StateEvent,
        follow_up: Option<FollowUp>,
        out: &mut Vec<Transition>,
    ) {
        let after = self.after(place, event, true);
        self.step_with(place, event, after, follow_up, out, |transition| transition);
    }

    fn step_with(
        &mut self,
        place: Place,
        event: &StateEvent,
        after: After,
        follow_up: Option<FollowUp>,
        out: &mut Vec<Transition>,
        adjust: impl FnOnce(Transition) -> Transition,
    ) {
        let (to, source, minisock) = match after {
            After::Open(state) => (state, Source::Event, false),
            After::Minisock(state) => (state, Source::Inferred, true),
            After::KnownMinisock(state) => (state, Source::Event, true),
            After::Gone => (Close, Source::Event, false),
        };
        let reason = self.reason(place, event, to, follow_up);
        let transition = self.store.change(place, |row| {
            describe(row, event);
            // A sweep may have seen the minisock before its event came: the kernel makes it first.
            let moved = row.state != to;
            let transition = super::transition(row, event.time, Some(event.from), to, source);
            row.last_fact = event.time;
            row.passed();
            row.confirm(matches!(after, After::KnownMinisock(_)));
            if minisock {
                row.become_minisock(event.time);
            }
            if moved {
                let step = Step {
                    time: event.time,
                    from: Some(event.from),
                    to,
                    source,
                };
                row.enter(step, false);
            }
            moved.then_some(transition)
        });
        if let Some(transition) = transition.flatten() {
            out.push(adjust(Transition { reason, ..transition }));
        }
        if to == Close {
            self.depart(
                place,
                Ending {
                    time: event.time,
                    source,
                    earliest: None,
                    reason,
                },
            );
            self.other_end_closed(event, out);
            if matches!(reason, Some(Reason::ResetByUs(_))) {
                self.other_end_gets_reset(event);
            }
        }
    }

    /// Where both ends are in one namespace: the RST that follows `event` ends a minisock in FIN_WAIT2
    /// (`tcp_timewait_state_process`), and nothing announces why. Whether it is gone, a scan or a hook says.
    fn other_end_gets_reset(&mut self, event: &StateEvent) {
        let tuple = event.connection.tuple();
        if let Some(other) = tuple.and_then(|tuple| self.store.minisock(&tuple.mirrored())) {
            self.store.change(other, |row| {
                if row.state == FinWait2 && row.last_fact <= event.time {
                    row.mark(Occurrence::ResetReceived, event.time);
                    row.confirm(false);
                }
            });
        }
    }

    /// Where both ends are in one namespace: LAST_ACK that ends without an error has most likely had its FIN
    /// acknowledged, so the other end, a minisock in FIN_WAIT2, has received it and is in TIME_WAIT by now
    /// (`tcp_timewait_state_process`). Where the kernel gave up the socket for want of memory instead
    /// (`tcp_check_oom`), the next sweep says so.
    fn other_end_closed(&mut self, event: &StateEvent, out: &mut Vec<Transition>) {
        if event.from != LastAck || event.error.is_some() || self.coverage().minisocks {
            return;
        }
        let other = event
            .connection
            .tuple()
            .and_then(|tuple| self.store.minisock(&tuple.mirrored()));
        let transition = other.and_then(|other| {
            self.store.change(other, |row| {
                if row.state != FinWait2 || row.last_fact > event.time {
                    return None;
                }
                let step = Step {
                    time: event.time,
                    from: Some(FinWait2),
                    to: TimeWait,
                    source: Source::Inferred,
                };
                let transition =
                    super::transition(row, event.time, Some(FinWait2), TimeWait, Source::Inferred);
                row.last_fact = event.time;
                row.confirm(false);
                row.enter(step, false);
                Some(transition)
            })
        });
        out.extend(transition.flatten());
    }

    /// An event that is older than what is already known.
    fn late(&mut self, place: Place, event: &StateEvent, out: &mut Vec<Transition>) {
        self.take_newborn(event);
        let step = Step {
            time: event.time,
            from: Some(event.from),
            to: event.to,
            source: Source::Event,
        };
        let transition = self.store.change(place, |row| {
            row.record(step);
            note_owner(row, event);
            super::transition(row, event.time, Some(event.from), event.to, Source::Event)
        });
        out.extend(transition.map(|late| Transition {
            in_state: None,
            at_least: false,
            ..late
        }));
    }

    /// Why `event` ends the row of its socket, if it does.
    fn reason(
        &self,
        place: Place,
        event: &StateEvent,
        to: TcpState,
        follow_up: Option<FollowUp>,
    ) -> Option<Reason> {
        let row = self.store.at(place).filter(|_| to == Close)?;
        of_event(event, row.known(follow_up))
    }

    fn depart(&mut self, place: Place, ending: Ending) {
        if let Some(row) = self.store.remove(place) {
            self.bury(row, ending);
        }
    }
}

/// Takes over what an event tells of its socket, the state excepted.
fn describe(row: &mut Row, event: &StateEvent) {
    row.connection.complete(&event.connection);
    row.set_skaddr(event.skaddr);
    row.set_uid(event.uid);
    row.set_fwmark(event.fwmark);
    row.learn_cgroup(event.cgroup);
    if let Some(standing) = event.standing {
        row.close_with(standing.totals);
    }
    note_owner(row, event);
}

/// Takes over what an event tells of who holds its socket.
fn note_owner(row: &mut Row, event: &StateEvent) {
    if let Some(owner) = event.owner {
        row.change_owners(|owners| owners.acted(owner));
    }
    if event.orphan {
        row.let_go(event.time);
    }
}
