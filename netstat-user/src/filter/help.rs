//! The language of filters, for `--help`.

/// What a user has to know of it.
pub const HELP: &str = "\
Filter: tests as `ss` and tcpdump take them, with `and` (or nothing) between them,
  `or`, `not` and parentheses.
  state NAME[,NAME…]    netstat's names or those of `ss`, or one of its groups: all,
  exclude NAME[,NAME…]  connected, synchronized, bucket, big. A name alone is enough.
                        For `watch`: a transition from or to one of them
  src, dst, host ADDR   local, remote, either end: 10.0.0.1, 10.0.0.0/8, 10/8, ::1, :443,
                        10.0.0.1:443, [::1]:443, localhost. An address alone means
                        `host`; an IPv4 address means its v4-mapped form, too, unless
                        `inet:` stands before it. ::1:443 is understood as netstat
                        writes it, and as an address
  sport, dport, port P  local, remote, either port: 443, :443, https, 8000-8100, after
                        = != < > <= >= or eq ne lt gt le ge if need be; 0 is the lack
                        of a port, * any
  pid N, comm NAME      the process that holds the socket, by number or exact name; a *
                        in the name is any letters
  uid N, user NAME      the socket's user
  cgroup PATH           its control group, without those inside it
  netns NAME            its network namespace: a name of `ip netns`, or an inode number
  dev NAME              the interface that it is bound to, by its name in the socket's
                        network namespace or its number; fe80::1%NAME and
                        [fe80::1%NAME]:443 are such an address on that interface
  inet, inet6           its address family
  cookie N, mptcp       the one with this cookie; subflows of MPTCP connections
  fwmark MARK[/MASK]    its SO_MARK: 2, 0x2, 0x2/0xf; 0 for none
  autobound             for `list` and `stuck`: the kernel has chosen its port. As with
                        `ss`, an accepted, half-open or TIME_WAIT connection passes if its
                        port is in ip_local_port_range
  bound                 for `list`: bound, and neither listening nor connecting

  Several values go with commas: port 22,8080. What `list`, `show` and `ss` print can be
  written as it is: ends with ports, `A → B`, PID/NAME, states in any spelling.
  `and` binds tighter than `or`, as ss(8) says; `ss` itself groups from the left.
  What is not known passes no test, but it passes `not …` and `!=`, which is the same.
  The shell wants quotes around ( ) ! < > & | and for `comm '\"a name\"'`.

Examples:
  netstate list CLOSE_WAIT
  netstate list state established dport = :https
  netstate list 'dst 10.0.0.0/8 and not (port 22 or comm nginx)'
  netstate list -a sport ge 8000 sport le 8100
  netstate list 'port 22,8080 or comm ngin*'
  netstate watch syn-sent,syn-recv or TIME_WAIT
  netstate watch 'dst [2001:db8::1]:443 and user root'
";
