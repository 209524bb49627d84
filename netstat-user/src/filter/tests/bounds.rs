//! How large a filter can be, and that steps which make no sense are none.

use std::net::IpAddr;

use super::*;
use crate::{
    protocol::{self, LONGEST_QUESTION, Question},
    view::{RowQuery, WatchQuery},
};

#[test]
fn a_filter_has_bounds() {
    let many = |count: usize| vec!["inet"; count].join(" ");
    assert_eq!(parsed(&many(128)).ops().len(), 255);
    let long = parse(&many(129), &Known).unwrap_err().to_string();
    assert!(long.contains("256"), "{long}");
    let nested = |depth: usize| format!("{}inet{}", "(inet and ".repeat(depth), ")".repeat(depth));
    parsed(&nested(63));
    let deep = parse(&nested(64), &Known).unwrap_err().to_string();
    assert!(deep.contains("64"), "{deep}");
    // Parentheses and `not`s that are of no consequence take no room in the end.
    parsed(&format!("{}inet{}", "(".repeat(1000), ")".repeat(1000)));
    assert!(parse(&"(".repeat(LONGEST_TEXT), &Known).is_err());
    assert!(parse(&"!".repeat(LONGEST_TEXT), &Known).is_err());
    assert!(parse(&many(LONGEST_TEXT), &Known).is_err());
}

#[test]
fn the_longest_filter_fits_into_a_question() {
    let ends = Ends {
        prefix: Some(Prefix::new(IpAddr::from([255; 16]), 128)),
        ports: Some(Ports::new(u16::MAX, u16::MAX)),
    };
    let test = Op::Test(Test::End(Side::Either, ends));
    // A test more would take an operator more.
    let mut ops = vec![test];
    ops.extend([test, Op::And].into_iter().cycle().take(MOST_OPS - 2));
    ops.push(Op::Not);
    let filter = Some(Filter::try_from(ops).unwrap());
    let netns = Some(Netns(u32::MAX));
    let query = RowQuery {
        netns,
        filter: filter.clone(),
        figures: true,
        holders: true,
        as_is: true,
        brief: false,
    };
    let questions = [
        Question::Rows(query),
        Question::Watch(WatchQuery { netns, filter }),
    ];
    for question in questions {
        let frame = protocol::encode(&question).unwrap();
        assert!(frame.len() <= LONGEST_QUESTION, "{} bytes", frame.len());
        assert_eq!(protocol::decode::<Question>(&frame).unwrap(), question);
    }
}

#[test]
fn steps_that_do_not_fit_are_no_filter() {
    let test = Op::Test(Test::Mptcp);
    let wrong: [&[Op]; 6] = [
        &[],
        &[Op::Not],
        &[test, Op::And],
        &[test, test],
        &[test, test, Op::Or, Op::Or],
        &[Op::Or, test, test],
    ];
    for ops in wrong {
        assert_eq!(
            Filter::try_from(ops.to_vec()),
            Err(BadProgram::Unbalanced),
            "{ops:?}"
        );
        let frame = protocol::encode(&ops).unwrap();
        assert!(protocol::decode::<Filter>(&frame).is_err(), "{ops:?}");
    }
    let mut deep = vec![test; DEEPEST + 1];
    deep.extend(vec![Op::Or; DEEPEST]);
    assert_eq!(Filter::try_from(deep), Err(BadProgram::Deep));
    assert_eq!(Filter::try_from(vec![test; MOST_OPS + 1]), Err(BadProgram::Long));
}
