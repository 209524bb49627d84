//! From a text to a filter: tests combined by `and`, `or`, `not` and parentheses.
//!
//! Operators wait on a list until what binds tighter is done (the shunting yard), so that no text, however nested,
//! takes more of the stack than another.

use std::ops::Range;

use super::{
    BadProgram, DEEPEST, Filter, LONGEST_TEXT, MOST_OPS, Names, Op, Side,
    grouping::Grouping,
    lex::{self, Sign, Token},
    predicate,
    problem::{Fault, Problem},
};

/// A filter, and what whoever wrote it ought to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The filter.
    pub filter: Filter,
    /// The text with parentheses around what belongs together, where it mixes `and` and `or` without them.
    pub grouped: Option<String>,
}

/// The filter that `text` describes.
///
/// # Errors
///
/// A [`Problem`], to be shown to whoever wrote the text.
pub fn parse(text: &str, names: &dyn Names) -> Result<Filter, Problem> {
    read(text, names).map(|parsed| parsed.filter)
}

/// The filter that `text` describes, and how `text` was understood.
///
/// # Errors
///
/// As [`parse`].
pub fn read(text: &str, names: &dyn Names) -> Result<Parsed, Problem> {
    if text.len() > LONGEST_TEXT {
        let fault = Fault::new(
            "the filter is too long".to_owned(),
            format!("{LONGEST_TEXT} bytes are the most that it may have"),
        );
        return Err(fault.at(0..0, ""));
    }
    let tokens = lex::tokens(text)?;
    let mut yard = Yard {
        reader: Reader {
            text,
            tokens: &tokens,
            more_ports: None,
        },
        waiting: Vec::new(),
        ops: Vec::new(),
        grouping: Grouping::default(),
    };
    yard.run(names)?;
    let grouped = yard.grouping.applied_to(text);
    let filter = Filter::try_from(yard.ops).map_err(|bad| {
        let help = match bad {
            BadProgram::Long => format!("it may have {MOST_OPS} tests and operators"),
            BadProgram::Deep | BadProgram::Unbalanced => {
                format!("at most {DEEPEST} values may wait for a closing parenthesis")
            }
        };
        Fault::new(format!("the filter cannot be used: {bad}"), help).at(0..text.len(), text)
    })?;
    Ok(Parsed { filter, grouped })
}

/// What is left of a text.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    text: &'a str,
    tokens: &'a [Token<'a>],
    /// A test of ports has just been read, of this end, and `or`: a number after it is another port.
    pub(super) more_ports: Option<Side>,
}

impl<'a> Reader<'a> {
    /// The next token, which stays.
    pub(super) fn peek(&self) -> Option<Sign<'a>> {
        self.tokens.first().map(|token| token.sign)
    }

    /// The next token, taken away.
    pub(super) fn next(&mut self) -> Option<&'a Token<'a>> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first)
    }

    /// Takes the next token away if `wanted` makes something of it.
    pub(super) fn take<T>(&mut self, wanted: impl FnOnce(Sign<'a>) -> Option<T>) -> Option<T> {
        let found = wanted(self.peek()?)?;
        self.next();
        Some(found)
    }

    /// Where what comes next begins.
    fn here(&self) -> usize {
        let first = self.tokens.first();
        first.map_or(self.text.len(), |token| token.place.start)
    }

    /// `fault`, as about these bytes of the text.
    pub(super) fn problem(&self, fault: Fault, place: &Range<usize>) -> Problem {
        fault.at(place.clone(), self.text)
    }

    /// `fault`, as about the next token, or about the end where there is none.
    pub(super) fn problem_here(&self, fault: Fault) -> Problem {
        let end = self.text.trim_end().len();
        let here = self.tokens.first().map_or(end..end, |token| token.place.clone());
        self.problem(fault, &here)
    }
}

/// An operator that waits for its right side to be complete, in the order in which they bind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Waiting {
    Open(usize),
    Or,
    And,
    Not,
}

/// The words that combine tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Not,
    And,
    Or,
}

fn operator(sign: Sign<'_>) -> Option<Operator> {
    match sign {
        Sign::Not => Some(Operator::Not),
        Sign::And => Some(Operator::And),
        Sign::Or => Some(Operator::Or),
        Sign::Word(word) if word.eq_ignore_ascii_case("not") => Some(Operator::Not),
        Sign::Word(word) if word.eq_ignore_ascii_case("and") => Some(Operator::And),
        Sign::Word(word) if word.eq_ignore_ascii_case("or") => Some(Operator::Or),
        _ => None,
    }
}

/// Whether `sign` combines tests, and so is no value.
pub(super) fn is_operator(sign: Sign<'_>) -> bool {
    operator(sign).is_some()
}

struct Yard<'a> {
    reader: Reader<'a>,
    waiting: Vec<Waiting>,
    ops: Vec<Op>,
    grouping: Grouping,
}

impl Yard<'_> {
    fn run(&mut self, names: &dyn Names) -> Result<(), Problem> {
        loop {
            self.operand(names)?;
            if !self.connection()? {
                break;
            }
        }
        self.settle(&Waiting::Or);
        self.grouping.end(self.reader.here());
        match self.waiting.pop() {
            Some(Waiting::Open(at)) => {
                let fault = Fault::new(
                    "this parenthesis is not closed".to_owned(),
                    "write `)` where it ends".to_owned(),
                );
                Err(self.reader.problem(fault, &(at..at + 1)))
            }
            _ => Ok(()),
        }
    }

    /// A test, and what stands before it.
    fn operand(&mut self, names: &dyn Names) -> Result<(), Problem> {
        loop {
            match self.reader.peek() {
                Some(Sign::Open) => {
                    let place = self.reader.next().map_or(0, |token| token.place.start);
                    self.waiting.push(Waiting::Open(place));
                    self.grouping.open(self.reader.here());
                }
                Some(sign) if operator(sign) == Some(Operator::Not) => {
                    self.reader.next();
                    self.waiting.push(Waiting::Not);
                    self.reader.more_ports = None;
                }
                Some(sign) if operator(sign).is_some() || sign == Sign::Close => return Err(self.no_test()),
                None => return Err(self.no_test()),
                Some(_) => return predicate::read(&mut self.reader, names, &mut self.ops),
            }
        }
    }

    /// What combines the test before with the next one; false at the end. Nothing means `and`.
    fn connection(&mut self) -> Result<bool, Problem> {
        while let Some(sign) = self.reader.peek() {
            match operator(sign) {
                _ if sign == Sign::Close => self.close()?,
                _ if sign == Sign::Comma => {
                    let fault = Fault::new(
                        "a comma cannot stand here".to_owned(),
                        "it separates the names of states alone; `and` and `or` combine tests".to_owned(),
                    );
                    return Err(self.reader.problem_here(fault));
                }
                Some(Operator::Or) => {
                    let end = self.reader.here();
                    self.reader.next();
                    self.combine(Waiting::Or);
                    self.grouping.or(end, self.reader.here());
                    return Ok(true);
                }
                Some(Operator::And) => {
                    self.reader.next();
                    self.and();
                    return Ok(true);
                }
                Some(Operator::Not) | None => {
                    self.and();
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn close(&mut self) -> Result<(), Problem> {
        self.settle(&Waiting::Or);
        self.grouping.close(self.reader.here());
        self.reader.more_ports = None;
        if self.waiting.pop().is_none() {
            let fault = Fault::new(
                "nothing is open that this could close".to_owned(),
                "leave it out, or write `(` before".to_owned(),
            );
            return Err(self.reader.problem_here(fault));
        }
        self.reader.next();
        Ok(())
    }

    fn and(&mut self) {
        self.combine(Waiting::And);
        self.grouping.and();
        self.reader.more_ports = None;
    }

    fn combine(&mut self, operator: Waiting) {
        self.settle(&operator);
        self.waiting.push(operator);
    }

    /// Writes down the operators that bind at least as tightly as `operator`.
    fn settle(&mut self, operator: &Waiting) {
        while let Some(last) = self.waiting.pop_if(|last| *last >= *operator) {
            self.ops.extend(match last {
                Waiting::Open(_) => None,
                Waiting::Or => Some(Op::Or),
                Waiting::And => Some(Op::And),
                Waiting::Not => Some(Op::Not),
            });
        }
    }

    fn no_test(&self) -> Problem {
        let fault = Fault::new("a test is missing here".to_owned(), predicate::KNOWN.to_owned());
        self.reader.problem_here(fault)
    }
}
