//! From text to one statement that only reads, with every name as the catalog spells it.
//!
//! Must not: search in the text with patterns; the tokenizer alone knows what is a string or a comment.
//! Invariant INV-Q1: names are folded here and nowhere else, so that no two parsers can disagree: an exact
//! match wins, else the only match that differs in case; a quoted name matches exactly or not at all.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    ExprWithAlias, Ident, ObjectName, Query, Statement as SqlStatement, TableAlias, TableFactor,
    Visit, VisitMut, Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use alluvium_types::LogIndex;

use crate::Error;

mod as_of;
mod depth;
mod fold;

pub(crate) use as_of::{VersionedName, split_version};
pub(crate) use fold::Names;

/// The dialect of every statement: what psql and its friends send.
pub(crate) const DIALECT: PostgreSqlDialect = PostgreSqlDialect {};

/// A statement's tokens before its names are resolved.
pub(crate) struct Parsed {
    tokens: Vec<TokenWithSpan>,
    /// The tables that it reads, as written.
    pub(crate) relations: Vec<Relation>,
}

/// A table as a statement names it.
#[derive(Debug, Clone)]
pub(crate) struct Relation {
    /// The parts of its name, from the catalog down; the last one carries the version.
    pub(crate) parts: Vec<Ident>,
}

impl Parsed {
    /// Parses `sql` far enough to know its tables.
    pub(crate) fn new(sql: &str) -> Result<Self, Error> {
        let tokens = as_of::mark(tokenize(sql)?)?;
        let statement = parse_one(tokens.clone())?;
        depth::check(question(&statement)?)?;
        let relations = relations(&statement)?;
        Ok(Self { tokens, relations })
    }

    /// Returns the statement with every name folded by `names`.
    pub(crate) fn resolve(self, names: &Names) -> Result<Statement, Error> {
        let mut statement = parse_one(names.fold(self.tokens))?;
        let mut aliases = NameVersions;
        let walked = question_mut(&mut statement)?.visit(&mut aliases);
        assert!(walked.is_continue(), "naming a table never stops the walk");
        Ok(statement)
    }
}

impl Relation {
    /// Returns the last part: the table's own name and version.
    pub(crate) fn name(&self) -> VersionedName {
        let last = self.parts.last().expect("a parsed name has a part");
        split_version(&last.value)
    }

    /// Says whether the last part was quoted.
    pub(crate) fn is_quoted(&self) -> bool {
        self.parts.last().is_some_and(|part| part.quote_style.is_some())
    }

    /// Returns the schema part, if there is one.
    pub(crate) fn schema(&self) -> Option<&str> {
        let position = self.parts.len().checked_sub(2)?;
        self.parts.get(position).map(|part| part.value.as_str())
    }

    /// Returns where the last part stands.
    pub(crate) fn location(&self) -> Location {
        self.parts.last().expect("a parsed name has a part").span.start
    }
}

/// Parses an expression over one dataset's columns; the whole text must be used.
pub(crate) fn parse_predicate(text: &str, names: &Names) -> Result<ExprWithAlias, Error> {
    let tokens = names.fold(tokenize(text)?);
    let end = end_of(&tokens);
    let mut parser =
        DFParserBuilder::new(tokens).with_dialect(&DIALECT).build().map_err(|e| syntax(e, end))?;
    let parsed = parser.parse_into_expr().map_err(|error| syntax(error, end))?;
    depth::check(&parsed.expr)?;
    Ok(parsed)
}

fn tokenize(text: &str) -> Result<Vec<TokenWithSpan>, Error> {
    depth::check_bytes(text)?;
    let mut tokenizer = Tokenizer::new(&DIALECT, text);
    let tokens = tokenizer.tokenize_with_location().map_err(|error| Error::Syntax {
        message: error.message,
        line: error.location.line,
        column: error.location.column,
    })?;
    depth::check_tokens(&tokens)?;
    Ok(tokens)
}

/// Says whether an expression asks another question. Planned alone it knows no tables to ask.
pub(crate) fn has_subquery(expr: &ExprWithAlias) -> bool {
    struct Stop;
    impl Visitor for Stop {
        type Break = ();

        fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    expr.expr.visit(&mut Stop).is_break()
}

fn parse_one(tokens: Vec<TokenWithSpan>) -> Result<Statement, Error> {
    let end = end_of(&tokens);
    let builder = DFParserBuilder::new(tokens).with_dialect(&DIALECT);
    let mut parser = builder.build().map_err(|error| syntax(error, end))?;
    let mut statements = parser.parse_statements().map_err(|error| syntax(error, end))?;
    let count = statements.len();
    match (statements.pop_front(), count) {
        (Some(statement), 1) => check_reads_only(statement),
        (Some(_) | None, count) => Err(Error::StatementCount { count }),
    }
}

fn end_of(tokens: &[TokenWithSpan]) -> Location {
    tokens.last().map_or(Location::new(1, 1), |token| token.span.end)
}

/// Refuses everything but questions. What a query may contain is checked again on the plan.
fn check_reads_only(statement: Statement) -> Result<Statement, Error> {
    if is_question(question(&statement)?) { Ok(statement) } else { Err(refused(&statement)) }
}

/// Returns the statement itself, or the one that is explained.
fn question(statement: &Statement) -> Result<&SqlStatement, Error> {
    match statement {
        Statement::Statement(inner) => Ok(inner),
        Statement::Explain(explain) => question(&explain.statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => {
            Err(refused(statement))
        }
    }
}

fn question_mut(statement: &mut Statement) -> Result<&mut SqlStatement, Error> {
    match statement {
        Statement::Statement(inner) => Ok(inner),
        Statement::Explain(explain) => question_mut(&mut explain.statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => {
            Err(refused(statement))
        }
    }
}

fn is_question(statement: &SqlStatement) -> bool {
    matches!(
        statement,
        SqlStatement::Query(_)
            | SqlStatement::Explain { .. }
            | SqlStatement::ExplainTable { .. }
            | SqlStatement::ShowTables { .. }
            | SqlStatement::ShowColumns { .. }
            | SqlStatement::ShowFunctions { .. }
            | SqlStatement::ShowVariable { .. }
            | SqlStatement::ShowVariables { .. }
    )
}

fn refused(statement: &Statement) -> Error {
    let text = statement.to_string();
    let first = text.split_whitespace().next().unwrap_or("the empty statement");
    Error::NotAQuery { statement: first.to_uppercase() }
}

/// Makes a syntax error of the parser's, whose only record of the place is the end of its message.
#[expect(clippy::wildcard_enum_match_arm, reason = "the parser gives no other error")]
fn syntax(error: DataFusionError, end: Location) -> Error {
    let message = match error {
        DataFusionError::SQL(error, _) => match *error {
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
            ParserError::RecursionLimitExceeded => "it nests too deep".to_owned(),
        },
        DataFusionError::Diagnostic(_, inner) => return syntax(*inner, end),
        other => other.strip_backtrace(),
    };
    let (message, place) = match message.rsplit_once(" at Line: ") {
        Some((message, place)) => (message.to_owned(), parse_place(place)),
        None => (message, None),
    };
    let (line, column) = place.unwrap_or((end.line, end.column));
    Error::Syntax { message, line, column }
}

fn parse_place(place: &str) -> Option<(u64, u64)> {
    let (line, column) = place.split_once(", Column: ")?;
    Some((line.trim().parse().ok()?, column.trim().parse().ok()?))
}

fn relations(statement: &Statement) -> Result<Vec<Relation>, Error> {
    let mut collector = Relations::default();
    let walked = question(statement)?.visit(&mut collector);
    assert!(walked.is_continue(), "collecting names never stops the walk");
    let Relations { found, defined, calls } = collector;
    let is_defined = |relation: &Relation| {
        let folded = relation.name().name.to_lowercase();
        relation.parts.len() == 1 && defined.contains(&folded)
    };
    let is_call = |relation: &Relation| calls.contains(&relation.location());
    Ok(found.into_iter().filter(|found| !is_defined(found) && !is_call(found)).collect())
}

/// Tables named, and the names that WITH defines.
#[derive(Default)]
struct Relations {
    found: Vec<Relation>,
    defined: BTreeSet<String>,
    /// Where table functions are called: their names are no tables.
    calls: Vec<Location>,
}

impl Visitor for Relations {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.defined.insert(table.alias.name.value.to_lowercase());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: Some(_), .. } = factor {
            let last = name.0.last().and_then(|part| part.as_ident());
            self.calls.extend(last.map(|part| part.span.start));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let parts: Option<Vec<Ident>> =
            relation.0.iter().map(|part| part.as_ident().cloned()).collect();
        if let Some(parts) = parts.filter(|parts| !parts.is_empty()) {
            self.found.push(Relation { parts });
        }
        ControlFlow::Continue(())
    }
}

/// Gives tables with a version their plain name as alias, so that `t AS OF 5` is still called `t`.
struct NameVersions;

impl VisitorMut for NameVersions {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, alias: alias @ None, .. } = factor {
            let last = name.0.last().and_then(|part| part.as_ident());
            let versioned = last.map(|part| split_version(&part.value));
            if let Some(VersionedName { name, version: Some(_) }) = versioned {
                let name = Ident::with_quote('"', name);
                *alias = Some(TableAlias { explicit: true, name, columns: Vec::new(), at: None });
            }
        }
        ControlFlow::Continue(())
    }
}

/// The token as an unquoted keyword.
fn keyword(token: &TokenWithSpan) -> Option<Keyword> {
    let Token::Word(word) = &token.token else { return None };
    word.quote_style.is_none().then_some(word.keyword)
}

/// The index of a version, once it is checked to be one.
fn parse_index(text: &str) -> Option<LogIndex> {
    text.parse().ok().map(LogIndex)
}

#[cfg(test)]
mod tests;
