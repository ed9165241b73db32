//! How long and how deep a text may be: what plans it recurses over it, and a stack that overflows takes the
//! whole process along.
//!
//! Must not: be passed by what the parser accepts. Its own limit counts what is nested in brackets; chains of
//! operators, joins and WITH become trees that are as deep as they are long.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Query, SetExpr, SetOperator, TableFactor, Visit, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::Error;

/// Bytes of a statement or predicate.
const TEXT_BYTES_MAX: usize = 1024 * 1024;
/// Tokens that can make a tree deeper: all but literals, commas, brackets and spaces, so that a list of
/// values may be as long as the text.
const TOKENS_MAX: usize = 10_000;
/// Levels of the tree that a statement becomes: what is evaluated on a task's stack of 2 MiB in a debug
/// build, with a margin.
const LEVELS_MAX: usize = 200;
/// Levels that one table counts for: the planner's work grows with more than the square of joined tables.
const TABLE_LEVELS: usize = 2;
/// Levels that EXCEPT and INTERSECT count for: each is a join. UNION is flattened to one operator.
const JOINED_SET_LEVELS: usize = 3;
/// Brackets that follow a bracket: dimensions of an array's type, which no visitor counts.
const DIMENSIONS_MAX: usize = 32;
/// Brackets within brackets: the parser tries each in more than one way, and the ways multiply once it meets
/// an error or its own limit inside.
const NESTED_MAX: usize = 8;

pub(super) fn check_bytes(text: &str) -> Result<(), Error> {
    check_value("bytes", text.len(), TEXT_BYTES_MAX)
}

pub(super) fn check_tokens(tokens: &[TokenWithSpan]) -> Result<(), Error> {
    let deepens = |token: &&TokenWithSpan| {
        !matches!(
            token.token,
            Token::Whitespace(_)
                | Token::Number(..)
                | Token::SingleQuotedString(_)
                | Token::Comma
                | Token::LParen
                | Token::RParen
                | Token::EOF
        )
    };
    let deepening: Vec<_> = tokens.iter().filter(deepens).map(|token| &token.token).collect();
    check_value("words and operators", deepening.len(), TOKENS_MAX)?;
    let is_dimension = |pair: &&[&Token]| matches!(pair, [Token::RBracket, Token::LBracket]);
    let dimensions = deepening.windows(2).filter(is_dimension).count();
    check_value("dimensions of arrays", dimensions, DIMENSIONS_MAX)?;
    check_value("brackets within brackets", nested(&deepening), NESTED_MAX)
}

fn nested(tokens: &[&Token]) -> usize {
    let (mut level, mut deepest) = (0_usize, 0);
    for token in tokens {
        if **token == Token::LBracket {
            level += 1;
            deepest = deepest.max(level);
        } else if **token == Token::RBracket {
            level = level.saturating_sub(1);
        }
    }
    deepest
}

/// Checks what a text was parsed to. It stops at the first level too many, so it is never too deep itself.
pub(super) fn check(parsed: &impl Visit) -> Result<(), Error> {
    let mut levels = Levels::default();
    match parsed.visit(&mut levels) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => check_value("levels", levels.count(), LEVELS_MAX),
    }
}

fn check_value(what: &'static str, value: usize, limit: usize) -> Result<(), Error> {
    match value <= limit {
        true => Ok(()),
        false => Err(Error::TooComplex { what, value, limit }),
    }
}

/// Counts levels. Those of different queries add up: the optimizer merges the expressions of a query into
/// those of the one around it, and one WITH builds on another.
#[derive(Default)]
struct Levels {
    /// Queries, tables and set operations so far.
    relations: usize,
    /// The deepest expression of each query that has ended.
    ended: usize,
    /// The queries that are open, innermost last; the first is for an expression on its own.
    open: Vec<Open>,
    alone: Open,
}

/// Expressions of one query.
#[derive(Default)]
struct Open {
    level: usize,
    deepest: usize,
}

impl Levels {
    fn count(&self) -> usize {
        let open: usize = self.open.iter().map(|open| open.deepest).sum();
        self.relations + self.ended + open + self.alone.deepest
    }

    fn go_on(&self) -> ControlFlow<()> {
        match self.count() <= LEVELS_MAX {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    }

    fn innermost(&mut self) -> &mut Open {
        self.open.last_mut().unwrap_or(&mut self.alone)
    }
}

impl Visitor for Levels {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.relations += 1;
        self.open.push(Open::default());
        // Without recursion: this is the chain that would be too deep.
        let mut parts = vec![query.body.as_ref()];
        while let Some(part) = parts.pop() {
            if let SetExpr::SetOperation { op, left, right, .. } = part {
                let flat = matches!(op, SetOperator::Union);
                self.relations += if flat { 1 } else { JOINED_SET_LEVELS };
                parts.extend([left.as_ref(), right.as_ref()]);
            }
        }
        self.go_on()
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        let open = self.open.pop().expect("every query that ends has begun");
        self.ended += open.deepest;
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, _factor: &TableFactor) -> ControlFlow<()> {
        self.relations += TABLE_LEVELS;
        self.go_on()
    }

    fn pre_visit_expr(&mut self, _expr: &Expr) -> ControlFlow<()> {
        let open = self.innermost();
        open.level += 1;
        open.deepest = open.deepest.max(open.level);
        self.go_on()
    }

    fn post_visit_expr(&mut self, _expr: &Expr) -> ControlFlow<()> {
        self.innermost().level -= 1;
        ControlFlow::Continue(())
    }
}
