//! A filter's text, cut into words and signs.

use std::ops::Range;

use winnow::{
    Parser,
    ascii::multispace0,
    combinator::{alt, delimited, preceded, repeat, terminated},
    error::EmptyError,
    stream::LocatingSlice,
    token::{take_till, take_while},
};

use super::{
    keyword,
    ports::Compare,
    problem::{Fault, Problem},
};

/// A word or sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign<'a> {
    Open,
    Close,
    Comma,
    Not,
    And,
    Or,
    Compare(Compare),
    Word(&'a str),
    /// In quotes: a value, whatever it looks like.
    Quoted(&'a str),
}

/// A word or sign, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) sign: Sign<'a>,
    pub(super) place: Range<usize>,
}

type Input<'a> = LocatingSlice<&'a str>;

/// The words and signs of `text`.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, Problem> {
    let token = sign.with_span().map(|(sign, place)| Token { sign, place });
    let all = preceded(multispace0, repeat(0.., terminated(token, multispace0)));
    // Every character can be part of a word, but for a quote that nothing closes.
    let unclosed = |at: usize| {
        Fault::new(
            "this quote is not closed".to_owned(),
            "write the same quote after the value: `comm \"a name\"`".to_owned(),
        )
        .at(at..text.len(), text)
    };
    let tokens: Vec<Token<'_>> = parse_all(all, text).map_err(unclosed)?;
    Ok(tokens.into_iter().flat_map(divided).flatten().collect())
}

/// `port:22` is `port` and `22`; any other token stays as it is.
fn divided(token: Token<'_>) -> [Option<Token<'_>>; 2] {
    let Sign::Word(word) = token.sign else {
        return [Some(token), None];
    };
    let Some((name, value)) = word
        .split_once(':')
        .filter(|(name, _)| keyword::takes_value(name))
    else {
        return [Some(token), None];
    };
    let Range { start, end } = token.place;
    let colon = start + name.len();
    let value = (!value.is_empty()).then_some(Token {
        sign: Sign::Word(value),
        place: colon + 1..end,
    });
    let name = Token {
        sign: Sign::Word(name),
        place: start..colon,
    };
    [Some(name), value]
}

/// What `parser` makes of the whole `text`, or how far it came.
fn parse_all<'a, T>(mut parser: impl Parser<Input<'a>, T, EmptyError>, text: &'a str) -> Result<T, usize> {
    parser
        .parse(LocatingSlice::new(text))
        .map_err(|error| error.offset())
}

fn sign<'a>(input: &mut Input<'a>) -> Result<Sign<'a>, EmptyError> {
    alt((
        '('.value(Sign::Open),
        ')'.value(Sign::Close),
        ','.value(Sign::Comma),
        alt(("&&", "&")).value(Sign::And),
        alt(("||", "|")).value(Sign::Or),
        compare.map(Sign::Compare),
        '!'.value(Sign::Not),
        quoted.map(Sign::Quoted),
        take_while(1.., is_of_word).map(Sign::Word),
    ))
    .parse_next(input)
}

fn quoted<'a>(input: &mut Input<'a>) -> Result<&'a str, EmptyError> {
    alt((
        delimited('"', take_till(0.., '"'), '"'),
        delimited('\'', take_till(0.., '\''), '\''),
    ))
    .parse_next(input)
}

fn compare(input: &mut Input<'_>) -> Result<Compare, EmptyError> {
    alt((
        alt(("==", "=")).value(Compare::Equal),
        "!=".value(Compare::Unequal),
        "<=".value(Compare::AtMost),
        ">=".value(Compare::AtLeast),
        '<'.value(Compare::Less),
        '>'.value(Compare::Greater),
    ))
    .parse_next(input)
}

fn is_of_word(char: char) -> bool {
    // Blanks as `multispace0` has them: another would be part of no token.
    !matches!(
        char,
        ' ' | '\t' | '\r' | '\n' | '"' | '\'' | '(' | ')' | ',' | '&' | '|' | '!' | '=' | '<' | '>'
    )
}
