//! `iter/tcp` again, with the figures of each socket: for the answer to a question, not for the sweeps that keep
//! the table, which would pay for them without need.

use core::{ffi::c_void, mem::MaybeUninit, ptr};

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns};
use netstat_ebpf::{
    fields::ABSENT,
    wire::{Count, Figure, SocketFigures, SocketSeen, kind, seen},
};

use crate::{
    kernel::{at, load, load_bits, load_optional, probe, probe_bits},
    seq::IterContext,
    sighting::{self, Sock, TCP_LISTEN},
};

/// Bits of `skc_flags` (`enum sock_flags`, `include/net/sock.h`).
const SOCK_DEAD: u64 = 0;
const SOCK_KEEPOPEN: u64 = 3;

/// A bit of `sk_userlocks` (`include/net/sock.h`).
const SOCK_BINDPORT_LOCK: u8 = 8;

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn iter_tcp_figures(ctx: *const u64) -> i32 {
    // SAFETY: called by the kernel as an iterator program.
    let ctx = unsafe { IterContext::new(ctx) };
    let sk = ctx.arg(0) as *const c_void;
    if sk.is_null() {
        sighting::end(ctx);
        return 0;
    }
    sighting::pause(ctx);
    let mut record = MaybeUninit::<SocketFigures>::uninit();
    let out = record.as_mut_ptr();
    // SAFETY: `sk` is a trusted `sock_common`; every byte of the record is written, first of all with zero.
    unsafe {
        clear(out);
        let Some(sock) = sighting::see(
            sk,
            kind::SOCKET_FIGURES,
            sighting::time(ctx),
            &raw mut (*out).seen,
        ) else {
            return 0;
        };
        let mut figures = Figures { out: &mut *out };
        figures.out.jiffies = bpf_jiffies64();
        figures.out.monotonic = bpf_ktime_get_ns();
        if !matches!(sock, Sock::Request)
            && let Some(v6only) = probe_bits(sk, at!(skc_ipv6only))
        {
            figures.out.set_figure(Figure::V6Only, v6only.into());
        }
        port_choice(sk, sock, &mut figures.out.seen);
        match sock {
            Sock::Full(tcp) if figures.out.seen.state == TCP_LISTEN => listener(tcp, &mut figures),
            Sock::Full(tcp) => full(tcp, &mut figures),
            Sock::Mini => minisock(sk, &mut figures),
            Sock::Request => request(sk, &mut figures),
        }
        ctx.write(record.assume_init_ref());
    }
    0
}

/// Says whether the kernel has chosen the local port, as far as that can be told. `ss` judges by the same two things: the
/// lock, in `inet_diag_bc_sk`, and the range, by itself.
#[inline(always)]
unsafe fn port_choice(sk: *const c_void, sock: Sock, out: &mut SocketSeen) {
    // SAFETY: `sk` is a trusted `sock_common`, and the pointer in `sock` a trusted `tcp_sock`.
    unsafe {
        let locks = match sock {
            Sock::Full(tcp) => load_bits(tcp, at!(sk_userlocks)),
            Sock::Mini | Sock::Request => Some(0),
        };
        let (Some(locks), Some((first, last))) = (locks, local_ports(load(sk, at!(skc_net)))) else {
            return;
        };
        out.flags |= seen::PORT_CHOICE;
        let port = u32::from(out.socket.local_port);
        if locks & SOCK_BINDPORT_LOCK == 0 && port >= first && port <= last {
            out.flags |= seen::AUTOBOUND;
        }
    }
}

/// The ports that the kernel chooses from in this namespace (`inet_get_local_port_range`).
///
/// # Safety
///
/// `net` is a trusted `struct net`.
#[inline(always)]
unsafe fn local_ports(net: *const c_void) -> Option<(u32, u32)> {
    // SAFETY: as the caller promises.
    unsafe {
        let first = load_optional::<u32>(net, at!(net_local_ports))?;
        Some(match load_optional::<u32>(net, at!(net_last_local_port)) {
            Some(last) => (first, last),
            None => (first & 0xffff, first >> 16),
        })
    }
}

/// Volatile, since LLVM would make a call of `memset` of it, which there is not.
#[inline(always)]
unsafe fn clear(out: *mut SocketFigures) {
    const WORDS: usize = size_of::<SocketFigures>() / size_of::<u64>();
    for word in 0..WORDS {
        // SAFETY: inside the record, which consists of such words.
        unsafe { ptr::write_volatile(out.cast::<u64>().add(word), 0) }
    }
}

/// The record, to be filled in.
struct Figures<'a> {
    out: &'a mut SocketFigures,
}

impl Figures<'_> {
    /// Copies a field, unless the kernel does not have it.
    #[inline(always)]
    unsafe fn copy<T: Copy + Into<u32>>(&mut self, which: Figure, base: *const c_void, offset: u32) {
        // SAFETY: the caller passes a trusted pointer, and the offset of a `T` in what it points to.
        if let Some(value) = unsafe { load_optional::<T>(base, offset) } {
            self.out.set_figure(which, value.into());
        }
    }

    /// As [`copy`](Self::copy), for 64 bits.
    #[inline(always)]
    unsafe fn copy_count(&mut self, which: Count, base: *const c_void, offset: u32) {
        // SAFETY: as for `copy`.
        if let Some(value) = unsafe { load_optional::<u64>(base, offset) } {
            self.out.set_count(which, value);
        }
    }

    /// Copies the socket's own setting, or its namespace's where it has none.
    #[inline(always)]
    unsafe fn setting<T: Copy + Into<u32>>(
        &mut self,
        which: Figure,
        own: (*const c_void, u32),
        net: (*const c_void, u32),
    ) {
        // SAFETY: as for `copy`, for both.
        unsafe {
            let Some(value) = load_optional::<T>(own.0, own.1) else {
                return;
            };
            match value.into() {
                0 => self.copy::<T>(which, net.0, net.1),
                value => self.out.set_figure(which, value),
            }
        }
    }

    /// Says when the one timer of a minisock or request sock is due; it lies behind what the verifier knows.
    #[inline(always)]
    fn timer(&mut self, sk: *const c_void, timer: u32) {
        if timer == ABSENT || at!(timer_expires) == ABSENT {
            return;
        }
        if let Some(expires) = probe(sk, timer + at!(timer_expires)) {
            self.out.set_count(Count::Expires, expires);
        }
    }
}

/// What a minisock waits for, and since when.
#[inline(always)]
unsafe fn minisock(sk: *const c_void, figures: &mut Figures<'_>) {
    figures.timer(sk, at!(tw_timer));
    if let Some(entered) = probe::<u32>(sk, at!(tw_entry_stamp)) {
        figures.out.set_figure(Figure::Entered, entered);
    }
    // SAFETY: `sk` is a trusted `sock_common`.
    unsafe {
        let net = load(sk, at!(skc_net));
        figures.copy::<u32>(Figure::FinTimeout, net, at!(net_fin_timeout));
    }
}

#[inline(always)]
unsafe fn request(sk: *const c_void, figures: &mut Figures<'_>) {
    figures.timer(sk, at!(request_timer));
    if let Some(timeouts) = probe_bits(sk, at!(request_timeouts)) {
        figures.out.set_figure(Figure::Retransmits, timeouts.into());
    }
    if let Some(retrans) = probe::<u8>(sk, at!(request_retrans)) {
        figures.out.set_figure(Figure::TotalRetrans, retrans.into());
    }
    if let Some(timeout) = probe::<u32>(sk, at!(request_timeout)) {
        figures.out.set_figure(Figure::FirstTimeout, timeout);
    }
    if let Some(answered) = probe_bits(sk, at!(request_acked)) {
        figures.out.set_figure(Figure::Answered, answered.into());
    }
    if let Some(sent) = probe::<u64>(sk, at!(request_synack)) {
        figures.out.set_count(Count::FirstSynAck, sent);
    }
    let Some(listener) = probe::<*const c_void>(sk, at!(request_listener)) else {
        return;
    };
    if let Some(cookie) = probe::<u64>(listener, at!(skc_cookie)) {
        figures.out.set_count(Count::Listener, cookie);
    }
    // `reqsk_timer_handler` asks the listener, then its namespace.
    match probe::<u8>(listener, at!(icsk_syn_retries)) {
        Some(0) => {
            // SAFETY: `sk` is a trusted `sock_common`.
            unsafe {
                let net = load(sk, at!(skc_net));
                figures.copy::<u8>(Figure::SynRetries, net, at!(net_synack_retries));
            }
        }
        Some(retries) => figures.out.set_figure(Figure::SynRetries, retries.into()),
        None => {}
    }
}

#[inline(always)]
unsafe fn listener(tcp: *const c_void, figures: &mut Figures<'_>) {
    // SAFETY: `tcp` is a trusted `tcp_sock`.
    unsafe {
        figures.copy::<u32>(Figure::Requests, tcp, at!(icsk_requests));
        figures.copy::<u32>(Figure::Drops, tcp, at!(sk_drops));
        timers(tcp, figures);
    }
}

#[inline(always)]
unsafe fn full(tcp: *const c_void, figures: &mut Figures<'_>) {
    // SAFETY: `tcp` is a trusted `tcp_sock`.
    unsafe {
        timers(tcp, figures);
        settings(tcp, figures);
        path(tcp, figures);
        traffic(tcp, figures);
        windows(tcp, figures);
    }
}

/// What is armed, and what has run out so far.
#[inline(always)]
unsafe fn timers(tcp: *const c_void, figures: &mut Figures<'_>) {
    // SAFETY: as for `full`.
    unsafe {
        figures.copy::<u8>(Figure::Pending, tcp, at!(icsk_pending));
        figures.copy::<u8>(Figure::Retransmits, tcp, at!(icsk_retransmits));
        figures.copy::<u8>(Figure::ProbesOut, tcp, at!(icsk_probes_out));
        if at!(timer_expires) == ABSENT || at!(timer_armed) == ABSENT {
            return;
        }
        if at!(retransmit_timer) != ABSENT {
            figures.copy_count(Count::Expires, tcp, at!(retransmit_timer) + at!(timer_expires));
        }
        if at!(keepalive_timer) != ABSENT && load::<u64>(tcp, at!(keepalive_timer) + at!(timer_armed)) != 0 {
            figures.copy_count(
                Count::KeepaliveExpires,
                tcp,
                at!(keepalive_timer) + at!(timer_expires),
            );
        }
    }
}

/// What decides when the kernel gives up.
#[inline(always)]
unsafe fn settings(tcp: *const c_void, figures: &mut Figures<'_>) {
    // SAFETY: as for `full`; the namespace is that of the socket.
    unsafe {
        let net: *const c_void = load(tcp, at!(skc_net));
        let flags = load::<u64>(tcp, at!(skc_flags));
        let flag = |bit| (flags >> bit & 1) as u32;
        figures.out.set_figure(Figure::Orphan, flag(SOCK_DEAD));
        figures.out.set_figure(Figure::Keepalive, flag(SOCK_KEEPOPEN));
        figures.copy::<u8>(Figure::SynLinearTimeouts, net, at!(net_syn_linear_timeouts));
        figures.setting::<u8>(
            Figure::SynRetries,
            (tcp, at!(icsk_syn_retries)),
            (net, at!(net_syn_retries)),
        );
        figures.copy::<u8>(Figure::Retries, net, at!(net_retries2));
        figures.setting::<u32>(
            Figure::KeepaliveTime,
            (tcp, at!(keepalive_time)),
            (net, at!(net_keepalive_time)),
        );
        figures.setting::<u32>(
            Figure::KeepaliveInterval,
            (tcp, at!(keepalive_intvl)),
            (net, at!(net_keepalive_intvl)),
        );
        figures.setting::<u8>(
            Figure::KeepaliveProbes,
            (tcp, at!(keepalive_probes)),
            (net, at!(net_keepalive_probes)),
        );
        figures.copy::<u32>(Figure::UserTimeout, tcp, at!(icsk_user_timeout));
        figures.copy::<u8>(Figure::Shutdown, tcp, at!(sk_shutdown));
        figures.copy::<u32>(Figure::SoftError, tcp, at!(sk_err_soft));
    }
}

/// What the way to the peer is like.
#[inline(always)]
unsafe fn path(tcp: *const c_void, figures: &mut Figures<'_>) {
    // SAFETY: as for `full`.
    unsafe {
        figures.copy::<u8>(Figure::Backoff, tcp, at!(icsk_backoff));
        figures.copy::<u32>(Figure::ProbesSince, tcp, at!(icsk_probes_tstamp));
        figures.copy::<u32>(Figure::SentAgain, tcp, at!(retrans_stamp));
        if let Some(micros) = load_bits(tcp, at!(tcp_usec_ts)) {
            figures.out.set_figure(Figure::MicrosecondStamps, micros.into());
        }
        figures.copy::<u32>(Figure::Rto, tcp, at!(icsk_rto));
        figures.copy::<u32>(Figure::RtoMax, tcp, at!(icsk_rto_max));
        figures.copy::<u32>(Figure::Srtt, tcp, at!(srtt_us));
        figures.copy::<u32>(Figure::Mdev, tcp, at!(mdev_us));
        figures.copy::<u32>(Figure::MinRtt, tcp, at!(rtt_min));
        figures.copy::<u32>(Figure::Cwnd, tcp, at!(snd_cwnd));
        figures.copy::<u32>(Figure::Ssthresh, tcp, at!(snd_ssthresh));
        figures.copy::<u32>(Figure::Mss, tcp, at!(mss_cache));
        figures.copy::<u32>(Figure::PacketsOut, tcp, at!(packets_out));
        figures.copy::<u32>(Figure::RetransOut, tcp, at!(retrans_out));
        figures.copy::<u32>(Figure::LostOut, tcp, at!(lost_out));
        figures.copy::<u32>(Figure::SackedOut, tcp, at!(sacked_out));
        figures.copy::<u32>(Figure::TotalRetrans, tcp, at!(total_retrans));
    }
}

/// What has gone over the connection, and when.
#[inline(always)]
unsafe fn traffic(tcp: *const c_void, figures: &mut Figures<'_>) {
    // SAFETY: as for `full`.
    unsafe {
        figures.copy_count(Count::BytesAcked, tcp, at!(bytes_acked));
        figures.copy_count(Count::BytesReceived, tcp, at!(bytes_received));
        figures.copy_count(Count::BytesSent, tcp, at!(bytes_sent));
        figures.copy_count(Count::BytesRetrans, tcp, at!(bytes_retrans));
        figures.copy::<u32>(Figure::LastSent, tcp, at!(lsndtime));
        figures.copy::<u32>(Figure::LastReceived, tcp, at!(lrcvtime));
        figures.copy::<u32>(Figure::LastAck, tcp, at!(rcv_tstamp));
    }
}

/// What waits to be sent, acknowledged and read, and what room there is.
#[inline(always)]
unsafe fn windows(tcp: *const c_void, figures: &mut Figures<'_>) {
    // SAFETY: as for `full`.
    unsafe {
        if let Some(next) = load_optional::<u32>(tcp, at!(snd_nxt)) {
            let unacked = next.wrapping_sub(load(tcp, at!(snd_una)));
            let unsent = load::<u32>(tcp, at!(write_seq)).wrapping_sub(next);
            figures.out.set_figure(Figure::Unacked, unacked);
            figures.out.set_figure(Figure::Unsent, unsent);
        }
        figures.copy::<u32>(Figure::SendWindow, tcp, at!(snd_wnd));
        let advertised = (
            load_optional::<u32>(tcp, at!(rcv_wup)),
            load_optional::<u32>(tcp, at!(rcv_wnd)),
        );
        if let (Some(since), Some(window)) = advertised {
            let left = since.wrapping_add(window).wrapping_sub(load(tcp, at!(rcv_nxt)));
            // As `tcp_receive_window`: the peer may have sent more than it was given room for.
            let left = if (left as i32) < 0 { 0 } else { left };
            figures.out.set_figure(Figure::ReceiveWindow, left);
        }
        figures.copy::<u32>(Figure::ReceiveLimit, tcp, at!(rcv_ssthresh));
        figures.copy::<u32>(Figure::SendBuffer, tcp, at!(sk_sndbuf));
        figures.copy::<u32>(Figure::ReceiveBuffer, tcp, at!(sk_rcvbuf));
        figures.copy::<u32>(Figure::ReceiveMemory, tcp, at!(sk_rmem_alloc));
    }
}
