//! Folding what hooks in the kernel tell: the port that `connect` has chosen, and the lives of request socks and
//! minisocks, which without hooks only sweeps see.

use super::{
    End, Table,
    row::{Row, Step},
    slots::Place,
    transition::{Source, Transition},
};
use crate::{
    clock::Ktime,
    connection::Cookie,
    facts::{Form, Gone, SocketGone, SocketNews, StateEvent},
    reason::Cause,
    tcp::TcpState::{self, Listen, SynRecv},
};

/// More minisocks than this never wait for their full sock to be closed.
const MOST_NEWBORN: usize = 65_536;

/// A minisock that has been hashed, before `tcp_time_wait` goes on to close the full sock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Newborn {
    pub(super) hashed: Ktime,
    /// `None` when it has ended already.
    pub(super) state: Option<TcpState>,
}

impl Table {
    /// Folds one piece of news.
    pub fn apply_news(&mut self, news: &SocketNews, out: &mut Vec<Transition>) {
        match news.form {
            Form::Full => self.port_chosen(news, out),
            Form::Request => self.request_hashed(news, out),
            Form::Minisock => self.minisock_is(news, out),
        }
    }

    /// Folds the end of a minisock or of a request sock.
    pub fn apply_gone(&mut self, gone: &SocketGone, out: &mut Vec<Transition>) {
        if gone.form == Form::Minisock
            && let Some(newborn) = self.newborn.get_mut(&gone.cookie)
        {
            newborn.state = None;
            return;
        }
        let Some(place) = self.that_ended(gone) else {
            return;
        };
        let end = End {
            time: gone.time,
            source: Source::Event,
            cause: match gone.why {
                None => Cause::Unknown,
                Some(Gone::Expired) => Cause::Expired,
                Some(Gone::Unanswered(tries)) => Cause::Unanswered(tries),
                Some(Gone::ListenerGone) => Cause::ListenerGone,
            },
            earliest: None,
        };
        self.end(place, end, out);
    }

    /// The row of what has ended. A child that came of a request sock has its cookie, and so has a socket that is
    /// used again, but not its form or its ports. If those are the same too, a sweep must say which one is gone.
    fn that_ended(&mut self, gone: &SocketGone) -> Option<Place> {
        let own = self.store.find(gone.cookie);
        let left = self.store.left(gone.cookie);
        let all = left.iter().copied().chain(own);
        let mut fit = all.filter(|place| {
            let row = self.store.at(*place);
            row.is_some_and(|row| row.form == gone.form && row.connection.ports() == gone.ports)
        });
        let (first, several) = (fit.next(), fit.next().is_some());
        if !several {
            return first;
        }
        // They have the same ports, on other addresses.
        let doubtful: Vec<Place> = left.iter().copied().chain(own).collect();
        for place in doubtful {
            self.store.change(place, |row| row.confirm(false));
        }
        None
    }

    /// What has become of the minisock of a full sock that `event` closes, if hooks have told of one.
    pub(super) fn take_newborn(&mut self, event: &StateEvent) -> Option<Newborn> {
        if self.newborn.is_empty() {
            return None;
        }
        self.newborn.remove(&event.connection.cookie)
    }

    fn port_chosen(&mut self, news: &SocketNews, out: &mut Vec<Transition>) {
        self.replace_minisock(&news.connection, news.time, out);
        self.store.change_of(news.connection.cookie, |row| {
            row.connection.complete(&news.connection);
        });
    }

    fn request_hashed(&mut self, news: &SocketNews, out: &mut Vec<Transition>) {
        self.replace_minisock(&news.connection, news.time, out);
        let cookie = news.connection.cookie;
        let over = self.departed.get(&cookie).is_some_and(|&gone| gone > news.time);
        if over || self.store.find(cookie).is_some() {
            return;
        }
        let mut row = Row::begun(news.connection, Listen, news.time);
        row.form = Form::Request;
        row.has_no_queues();
        row.confirm(true);
        row.inherit(self.owners_by_listener(&news.connection));
        let transition = super::transition(&row, news.time, Some(Listen), SynRecv, Source::Event);
        // How long the listener has listened is not how long this has.
        out.push(Transition {
            in_state: None,
            ..transition
        });
        let step = Step {
            time: news.time,
            from: Some(Listen),
            to: SynRecv,
            source: Source::Event,
        };
        row.enter(step, false);
        self.store.insert(row);
    }

    fn minisock_is(&mut self, news: &SocketNews, out: &mut Vec<Transition>) {
        let cookie = news.connection.cookie;
        if news.made {
            self.expect(cookie, news);
            return;
        }
        if let Some(newborn) = self.newborn.get_mut(&cookie) {
            newborn.state = Some(news.state);
        }
        let tuple = news.connection.tuple();
        let left = tuple.and_then(|tuple| self.store.left_with(cookie, &tuple));
        let Some(place) = left.or_else(|| self.store.find(cookie)) else {
            return;
        };
        let transition = self.store.change(place, |row| {
            if row.form != Form::Minisock || row.state == news.state || row.last_fact > news.time {
                return None;
            }
            let step = Step {
                time: news.time,
                from: Some(row.state),
                to: news.state,
                source: Source::Event,
            };
            let transition = super::transition(row, news.time, Some(row.state), news.state, Source::Event);
            row.last_fact = news.time;
            row.confirm(true);
            row.enter(step, false);
            Some(transition)
        });
        out.extend(transition.flatten());
    }

    /// Remembers a minisock until its full sock is announced as closed.
    fn expect(&mut self, cookie: Cookie, news: &SocketNews) {
        if self.newborn.len() >= MOST_NEWBORN {
            self.newborn.clear();
        }
        let newborn = Newborn {
            hashed: news.time,
            state: Some(news.state),
        };
        self.newborn.insert(cookie, newborn);
    }
}
