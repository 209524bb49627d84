//! Numbers with the thing that they count.

use std::fmt::Display;

/// `1 socket`, `2 sockets`, `2 processes`: `noun` is the singular.
pub(crate) fn counted(count: impl Copy + Display + PartialEq + From<u8>, noun: &str) -> String {
    if count == 1.into() {
        return format!("1 {noun}");
    }
    let ending = if noun.ends_with('s') || noun.ends_with("ch") {
        "es"
    } else {
        "s"
    };
    format!("{count} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn only_one_is_singular() {
        assert_eq!(counted(0_usize, "socket"), "0 sockets");
        assert_eq!(counted(1_u64, "process"), "1 process");
        assert_eq!(counted(2_u32, "process"), "2 processes");
        assert_eq!(counted(3_u8, "keepalive probe"), "3 keepalive probes");
    }
}
