//! One row of the table: a connection, its state, and how it came there.
//!
//! There are a million of them on a large host, so a row takes 256 bytes, four lines of the processor's cache: what
//! many rows lack has no room of its own.

use std::{num::NonZeroU64, time::Duration};

use serde::{Deserialize, Serialize};

use super::steps::Steps;
use crate::{
    clock::Ktime,
    connection::{Connection, Cookie, Owner, SkAddr},
    facts::{Form, Occurrence, Queues, Sighting, Totals},
    owners::{Owners, PackedOwners},
    reason::{FollowUp, Known, Side},
    sources::Coverage,
    table::transition::Source,
    tcp::TcpState::{self, CloseWait, Closing, FinWait1, FinWait2, LastAck},
};

/// A past step of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When.
    pub time: Ktime,
    /// The state before, if known.
    pub from: Option<TcpState>,
    /// The state after.
    pub to: TcpState,
    /// How it is known.
    pub source: Source,
}

/// How many marks a row remembers; the oldest go first.
const MARKS: usize = 16;

/// What has happened to a row without changing its state, once or several times in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// What.
    pub what: Occurrence,
    /// When the first time.
    pub first: Ktime,
    /// When the last time.
    pub last: Ktime,
    /// How often.
    pub count: u32,
}

/// How urgently a row waits for a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Every change will be announced.
    Settled,
    /// A minisock in TIME_WAIT, or a request sock: its end comes unannounced, but not soon.
    Lingering,
    /// Something is missing, or will be in a moment, that only a sweep can tell.
    Urgent,
}

/// A connection as the table knows it.
///
/// In the order in which most events need it: who it is, where it stands, who holds it, and the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(C)]
pub struct Row {
    /// Which connection.
    pub connection: Connection,
    /// The latest time at which anything was known of the row.
    pub(super) last_fact: Ktime,
    /// Since when it is in its state.
    pub since: Ktime,
    steps: Steps,
    /// The numbers of control groups begin at 1.
    cgroup: Option<NonZeroU64>,
    uid: u32,
    /// Its state.
    pub state: TcpState,
    /// The kernel's structure for it.
    pub form: Form,
    flags: u16,
    owners: PackedOwners,
    /// Where the kernel's structure was when it was last heard of.
    skaddr: Option<NonZeroU64>,
    totals: PackedTotals,
    rare: Option<Box<Rare>>,
    queues: Queues,
}

/// Rows fill the lines of the cache.
const _: () = assert!(size_of::<Row>() == 256);

/// What is known of a row, or true of it: bits of [`Row::flags`].
mod flag {
    /// The state is older than `since`.
    pub(super) const AT_LEAST: u16 = 1 << 0;
    /// Its end has been announced, and only its reason is not known yet.
    pub(super) const ANNOUNCED: u16 = 1 << 1;
    /// A sweep has seen the row in its present form.
    pub(super) const CONFIRMED: u16 = 1 << 2;
    /// A minisock whose socket has been disconnected and used again, and has the cookie too.
    pub(super) const LEFT: u16 = 1 << 3;
    pub(super) const UID: u16 = 1 << 4;
    pub(super) const QUEUES: u16 = 1 << 5;
    pub(super) const TOTALS: u16 = 1 << 6;
    pub(super) const ROUND_TRIP: u16 = 1 << 7;
    /// The mark is known: 0, unless the row has another.
    pub(super) const FWMARK: u16 = 1 << 8;
    /// It is known who has chosen the local port.
    pub(super) const PORT_CHOICE: u16 = 1 << 9;
    /// The kernel has.
    pub(super) const AUTOBOUND: u16 = 1 << 10;
    /// The last scan that should have found the row has not.
    pub(super) const MISSED: u16 = 1 << 11;
}

/// [`Totals`], once the full sock has closed, which the flag says; the round-trip time is there if its own says so. Until then,
/// the inode has room here, which a socket loses with that: 0 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct PackedTotals {
    bytes_acked_or_inode: u64,
    bytes_received: u64,
    retransmits: u32,
    srtt_us: u32,
}

/// What few rows have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Rare {
    marks: Vec<Mark>,
    /// Of a subflow, the MPTCP socket that processes hold.
    mptcp: Option<Cookie>,
    /// Of a minisock in FIN_WAIT2, when its timer ends it.
    due: Option<Ktime>,
    /// `SO_MARK`.
    fwmark: u32,
    /// How many steps have been forgotten.
    forgotten: u32,
}

impl Row {
    /// A row that begins with an event.
    pub(super) fn begun(connection: Connection, state: TcpState, time: Ktime) -> Self {
        Self {
            connection,
            since: time,
            last_fact: time,
            cgroup: None,
            skaddr: None,
            owners: PackedOwners::default(),
            steps: Steps::default(),
            totals: PackedTotals::default(),
            rare: None,
            queues: Queues::default(),
            uid: 0,
            state,
            form: Form::Full,
            flags: 0,
        }
    }

    /// A row that a sweep came upon.
    pub(super) fn found(seen: &Sighting) -> Self {
        let mut row = Self::begun(seen.connection, seen.state, seen.time);
        row.set(flag::AT_LEAST, true);
        row.see(seen);
        row
    }

    const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    const fn set(&mut self, flag: u16, value: bool) {
        if value {
            self.flags |= flag;
        } else {
            self.flags &= !flag;
        }
    }

    /// Looks at each line of the cache that the row is in.
    pub(super) fn glance(&self) -> u64 {
        self.last_fact.0 ^ self.since.0 ^ u64::from(self.owners.is_open()) ^ u64::from(self.queues.recv)
    }

    /// Whether the state is older than [`Row::since`]: it was there when the row was first seen.
    #[must_use]
    pub const fn at_least(&self) -> bool {
        self.has(flag::AT_LEAST)
    }

    pub(super) const fn set_at_least(&mut self) {
        self.set(flag::AT_LEAST, true);
    }

    /// Whether its end has been announced, and only its reason is not known yet.
    #[must_use]
    pub const fn announced(&self) -> bool {
        self.has(flag::ANNOUNCED)
    }

    pub(super) const fn announce(&mut self) {
        self.set(flag::ANNOUNCED, true);
    }

    /// Whether a sweep, or a hook, has shown the row in its present form.
    pub(super) const fn confirmed(&self) -> bool {
        self.has(flag::CONFIRMED)
    }

    pub(super) const fn confirm(&mut self, confirmed: bool) {
        self.set(flag::CONFIRMED, confirmed);
    }

    /// Whether its socket has been disconnected and used again, and has the cookie too.
    #[must_use]
    pub const fn is_left(&self) -> bool {
        self.has(flag::LEFT)
    }

    pub(super) const fn leave(&mut self) {
        self.set(flag::LEFT, true);
    }

    /// Where the structure of its form was when it was last heard of; `None` for one that nobody has told of or come upon.
    #[must_use]
    pub fn skaddr(&self) -> Option<SkAddr> {
        self.skaddr.map(|address| SkAddr(address.get()))
    }

    pub(super) const fn set_skaddr(&mut self, skaddr: SkAddr) {
        self.skaddr = NonZeroU64::new(skaddr.0);
    }

    /// The socket's user.
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        self.has(flag::UID).then_some(self.uid)
    }

    pub(super) const fn set_uid(&mut self, uid: u32) {
        self.uid = uid;
        self.set(flag::UID, true);
    }

    /// The socket's control group.
    #[must_use]
    pub fn cgroup(&self) -> Option<u64> {
        self.cgroup.map(NonZeroU64::get)
    }

    /// Takes over the control group, if it is known.
    pub(super) fn learn_cgroup(&mut self, cgroup: Option<u64>) {
        self.cgroup = cgroup.and_then(NonZeroU64::new).or(self.cgroup);
    }

    /// The socket's `SO_MARK`, 0 for none; a minisock's is that of the socket that it is left of.
    #[must_use]
    pub fn fwmark(&self) -> Option<u32> {
        let fwmark = || self.rare.as_ref().map_or(0, |rare| rare.fwmark);
        self.has(flag::FWMARK).then(fwmark)
    }

    pub(super) fn set_fwmark(&mut self, fwmark: u32) {
        self.set(flag::FWMARK, true);
        if fwmark != 0 {
            self.rare.get_or_insert_default().fwmark = fwmark;
        } else if let Some(rare) = &mut self.rare {
            rare.fwmark = 0;
        }
    }

    /// Whether the local port is one that the kernel chooses, and no process is known to have chosen it: of an accepted
    /// connection, a minisock and a request sock none ever is. Only scans with metrics read it.
    #[must_use]
    pub fn autobound(&self) -> Option<bool> {
        self.has(flag::PORT_CHOICE).then_some(self.has(flag::AUTOBOUND))
    }

    /// The inode of the file behind the socket.
    #[must_use]
    pub fn inode(&self) -> Option<u64> {
        let inode = self.totals.bytes_acked_or_inode;
        (!self.has(flag::TOTALS) && inode != 0).then_some(inode)
    }

    const fn set_inode(&mut self, inode: Option<u64>) {
        if !self.has(flag::TOTALS) {
            self.totals.bytes_acked_or_inode = match inode {
                Some(inode) => inode,
                None => 0,
            };
        }
    }

    /// Of a subflow, the MPTCP socket that processes hold.
    #[must_use]
    pub fn mptcp(&self) -> Option<Cookie> {
        self.rare.as_ref()?.mptcp
    }

    /// Queues at the last sighting, of a minisock or request sock none; `None` when a full sock was not sighted yet.
    #[must_use]
    pub fn queues(&self) -> Option<Queues> {
        self.has(flag::QUEUES).then_some(self.queues)
    }

    /// The processes that hold the socket, or held it last.
    #[must_use]
    pub fn owners(&self) -> Owners {
        self.owners.unpacked()
    }

    /// The first of them.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        self.owners.first()
    }

    /// Applies a rule of [`Owners`].
    pub(super) fn change_owners(&mut self, change: impl FnOnce(&mut Owners)) {
        self.owners.change(change);
    }

    /// Nobody holds the socket any more, and it has no file.
    pub(super) fn become_minisock(&mut self, time: Ktime) {
        self.form = Form::Minisock;
        self.skaddr = None;
        self.set_inode(None);
        self.has_no_queues();
        self.owners.let_go(time);
    }

    /// A request sock has become a child, whose queues nobody has looked at.
    pub(super) fn become_full(&mut self) {
        self.form = Form::Full;
        self.set(flag::QUEUES, false);
    }

    /// Its queues are known to be empty: only full socks have any.
    pub(super) fn has_no_queues(&mut self) {
        self.queues = Queues::default();
        self.set(flag::QUEUES, true);
    }

    /// At `time` nobody holds the socket.
    pub(super) fn let_go(&mut self, time: Ktime) {
        self.owners.let_go(time);
    }

    /// Gives the row to whoever holds its listener.
    pub(super) fn inherit(&mut self, owners: PackedOwners) {
        self.owners = owners;
    }

    /// The owners of a connection of this listener that nobody has accepted yet.
    pub(super) fn bequest(&self) -> PackedOwners {
        self.owners.inherited()
    }

    /// Takes over what a sighting tells, the state excepted.
    pub(super) fn see(&mut self, seen: &Sighting) {
        self.connection.complete(&seen.connection);
        self.form = seen.form;
        self.set_skaddr(seen.skaddr);
        if let Some(uid) = seen.uid {
            self.set_uid(uid);
        }
        self.learn_cgroup(seen.cgroup);
        self.set_inode(seen.inode);
        if let Some(fwmark) = seen.fwmark {
            self.set_fwmark(fwmark);
        }
        if let Some(autobound) = seen.autobound {
            self.set(flag::PORT_CHOICE, true);
            self.set(flag::AUTOBOUND, autobound);
        }
        if let Some(mptcp) = seen.mptcp {
            self.rare.get_or_insert_default().mptcp = Some(mptcp);
        }
        if let Some(due) = seen.due {
            self.rare.get_or_insert_default().due = Some(due);
        }
        // A subflow has no file of its own.
        let nobodys = seen.inode.is_none() && !self.connection.mptcp && self.owners.is_held();
        if seen.form == Form::Minisock || nobodys {
            self.owners.let_go(seen.time);
        }
        self.queues = seen.queues;
        self.set(flag::QUEUES, true);
        self.last_fact = seen.time;
        self.confirm(true);
        self.passed();
    }

    /// Whether it is a minisock in FIN_WAIT2 whose timer is due by `now`.
    pub(super) fn is_due(&self, now: Ktime) -> bool {
        let waits = self.form == Form::Minisock && self.state == TcpState::FinWait2;
        let due = self.rare.as_ref().and_then(|rare| rare.due);
        waits && due.is_some_and(|due| due <= now)
    }

    /// Notes that a sweep found the row.
    pub(super) fn passed(&mut self) {
        self.set(flag::MISSED, false);
    }

    /// Notes that a scan should have found the row, and has not. Returns whether the one before has not either.
    pub(super) fn miss(&mut self) -> bool {
        let again = self.is_missed();
        self.set(flag::MISSED, true);
        again
    }

    /// Whether the last scan has not found it.
    const fn is_missed(&self) -> bool {
        self.has(flag::MISSED)
    }

    /// Moves the row to another state.
    pub(super) fn enter(&mut self, step: Step, at_least: bool) {
        self.record(step);
        self.state = step.to;
        self.since = step.time;
        self.set(flag::AT_LEAST, at_least);
    }

    /// Adds a step to the history, in its place.
    pub(super) fn record(&mut self, step: Step) {
        if self.steps.add(step) {
            self.rare.get_or_insert_default().forgotten += 1;
        }
    }

    /// Gives back memory that is not used.
    pub(super) fn shrink(&mut self) {
        self.steps.shrink();
        if let Some(rare) = &mut self.rare {
            rare.marks.shrink_to_fit();
        }
    }

    /// Bytes that the row takes besides its own place.
    pub(super) fn heap_size(&self) -> usize {
        let marks = |rare: &Rare| rare.marks.capacity() * size_of::<Mark>();
        let rare = self
            .rare
            .as_ref()
            .map_or(0, |rare| size_of::<Rare>() + marks(rare));
        self.steps.heap_size() + self.owners.heap_size() + rare
    }

    /// The row's steps, oldest first, at most [`HISTORY`](super::HISTORY).
    pub fn history(&self) -> impl Iterator<Item = Step> + '_ {
        self.steps.iter()
    }

    /// Whether its socket has begun the connection after `time`; `false` if nobody saw it do that, and of a child, whose handshake may have
    /// begun before.
    #[must_use]
    pub fn has_begun_since(&self, time: Ktime) -> bool {
        // Most rows have not moved since then.
        self.since > time
            && self
                .first()
                .is_some_and(|step| step.from == Some(TcpState::Close) && step.time > time)
    }

    /// Its first step, if that is remembered.
    fn first(&self) -> Option<Step> {
        self.history().next().filter(|_| self.forgotten() == 0)
    }

    /// Whether it has moved since `time`, and begun since then or not longer than `before` that.
    pub(super) fn has_moved_soon_after_it_began(&self, time: Ktime, before: Duration) -> bool {
        // Most rows have not moved since then.
        self.since > time && self.first().is_some_and(|step| step.time.plus(before) > time)
    }

    /// How many older steps the row has forgotten.
    #[must_use]
    pub fn forgotten(&self) -> u32 {
        self.rare.as_ref().map_or(0, |rare| rare.forgotten)
    }

    /// Adds what happened to the marks: to the last one, if that is of the same kind and state.
    pub(super) fn mark(&mut self, what: Occurrence, time: Ktime) {
        let marks = &mut self.rare.get_or_insert_default().marks;
        if let Some(last) = marks.last_mut()
            && last.what == what
            && last.last >= self.since
        {
            last.last = last.last.max(time);
            last.count = last.count.saturating_add(1);
            return;
        }
        if marks.len() == MARKS {
            marks.remove(0);
        }
        marks.push(Mark {
            what,
            first: time,
            last: time,
            count: 1,
        });
    }

    /// What has happened besides the steps, oldest first: a bounded number of the latest.
    #[must_use]
    pub fn marks(&self) -> &[Mark] {
        self.rare.as_ref().map_or(&[], |rare| &rare.marks)
    }

    /// Whether this has happened in the state that the row is in.
    pub(super) fn has_seen(&self, what: Occurrence) -> bool {
        let mut of_state = self
            .marks()
            .iter()
            .rev()
            .take_while(|mark| mark.last >= self.since);
        of_state.any(|mark| mark.what == what)
    }

    /// Whether a RST has come since the latest fact about it.
    pub(super) fn was_reset(&self) -> bool {
        let last = self.marks().last();
        last.is_some_and(|mark| mark.what == Occurrence::ResetReceived && mark.last >= self.last_fact)
    }

    /// What adds to an event that ends the row.
    pub(super) fn known(&self, follow_up: Option<FollowUp>) -> Known {
        Known {
            closed_by: self.closed_by(),
            reset_received: self.has_seen(Occurrence::ResetReceived),
            reset_sent: self.has_seen(Occurrence::ResetSent),
            follow_up,
        }
    }

    /// Who closed first, as far as it was seen.
    #[must_use]
    pub fn closed_by(&self) -> Option<Side> {
        let was_in = |states: &[TcpState]| {
            let mut states = states.iter();
            states.any(|state| self.state == *state || self.steps.states().any(|to| to == *state))
        };
        if was_in(&[Closing]) {
            Some(Side::Both)
        } else if was_in(&[CloseWait, LastAck]) {
            Some(Side::Peer)
        } else {
            was_in(&[FinWait1, FinWait2]).then_some(Side::Us)
        }
    }

    /// Notes what has come of the connection when its full sock closes.
    pub(super) fn close_with(&mut self, totals: Totals) {
        let Totals {
            bytes_acked,
            bytes_received,
            retransmits,
            srtt_us,
        } = totals;
        self.totals = PackedTotals {
            bytes_acked_or_inode: bytes_acked,
            bytes_received,
            retransmits,
            srtt_us: srtt_us.unwrap_or(0),
        };
        self.set(flag::TOTALS, true);
        self.set(flag::ROUND_TRIP, srtt_us.is_some());
    }

    /// What had come of the connection when its full sock closed; `None` before that.
    #[must_use]
    pub fn totals(&self) -> Option<Totals> {
        let PackedTotals {
            bytes_acked_or_inode: bytes_acked,
            bytes_received,
            retransmits,
            srtt_us,
        } = self.totals;
        self.has(flag::TOTALS).then_some(Totals {
            bytes_acked,
            bytes_received,
            retransmits,
            srtt_us: self.has(flag::ROUND_TRIP).then_some(srtt_us),
        })
    }

    /// Whether the row is probably gone: the last sweep did not find it, and the next one decides; or its end has
    /// been announced and is told in a moment.
    #[must_use]
    pub const fn doubtful(&self) -> bool {
        self.is_missed() || self.announced()
    }

    /// Whether something holds the socket, and no process is known that does: an `io_uring`, or a message under way.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.inode().is_some() && !self.owners.is_held() && !self.connection.mptcp
    }

    /// Whether a process is known to hold the socket.
    pub(super) fn is_held(&self) -> bool {
        self.owners.is_held()
    }

    /// How long the row has been in its state.
    #[must_use]
    pub fn in_state(&self, now: Ktime) -> Duration {
        now.since(self.since)
    }

    /// Whether a process must hold the socket, and none is known that does.
    #[must_use]
    pub fn is_ownerless(&self) -> bool {
        // In the other states it may be an orphan, or is so for a moment only.
        let held = matches!(
            self.state,
            TcpState::Listen | TcpState::SynSent | TcpState::Established | TcpState::CloseWait
        );
        self.form == Form::Full && held && self.owners.is_open()
    }

    /// What the row still waits for, if the kernel announces what `coverage` says.
    #[must_use]
    pub fn settlement(&self, coverage: Coverage) -> Settlement {
        let no_port = self.connection.local.port().is_none();
        let connecting = no_port && self.state == TcpState::SynSent;
        // `listen` without `bind` is announced before the kernel picks the port (`inet_csk_listen_start`).
        let listening = no_port && self.state == TcpState::Listen;
        let portless = (connecting || listening) && !coverage.ports;
        let assumed = self.form == Form::Minisock && !self.confirmed();
        // Most peers close too: the step to TIME_WAIT is only a round trip away.
        let closing = self.form == Form::Minisock && self.state == TcpState::FinWait2;
        let covered = match self.form {
            Form::Full => true,
            Form::Request => coverage.requests,
            Form::Minisock => coverage.minisocks,
        };
        let missing = portless || (closing && !coverage.minisocks);
        if missing || assumed || self.is_missed() {
            Settlement::Urgent
        } else if covered {
            Settlement::Settled
        } else {
            Settlement::Lingering
        }
    }
}
