//! The one place that decides what an unquoted name means.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};

use crate::sql::split_version;

/// The names that a statement may mean: columns and tables as the catalog spells them.
#[derive(Debug, Default)]
pub(crate) struct Names {
    exact: BTreeSet<String>,
    /// Lower case to the spellings that fold to it.
    folded: BTreeMap<String, BTreeSet<String>>,
    /// Tables that were resolved already, by where the statement names them.
    tables: BTreeMap<(u64, u64), String>,
}

impl Names {
    /// Adds a name as the catalog spells it.
    pub(crate) fn add(&mut self, name: &str) {
        self.exact.insert(name.to_owned());
        self.folded.entry(name.to_lowercase()).or_default().insert(name.to_owned());
    }

    /// Says which table the word at `location` names, version included.
    pub(crate) fn add_table(&mut self, location: Location, name: String) {
        self.tables.insert((location.line, location.column), name);
    }

    /// Spells every unquoted word as the catalog does, or in lower case when the catalog has no such name.
    ///
    /// Quoted words stay. A word keeps its meaning as a keyword, so the grammar does not change.
    pub(crate) fn fold(&self, mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
        for position in 0..tokens.len() {
            let is_call =
                matches!(tokens.get(position + 1).map(|token| &token.token), Some(Token::LParen));
            let start = tokens[position].span.start;
            let Token::Word(word) = &mut tokens[position].token else { continue };
            if let Some(table) = self.tables.get(&(start.line, start.column)) {
                word.value = table.clone();
                word.quote_style = Some('"');
            } else if word.quote_style.is_none() {
                word.value =
                    if is_call { word.value.to_lowercase() } else { self.spell(&word.value) };
            }
        }
        tokens
    }

    fn spell(&self, word: &str) -> String {
        if self.exact.contains(word) || split_version(word).version.is_some() {
            return word.to_owned();
        }
        let folded = word.to_lowercase();
        match self.folded.get(&folded).map(|spellings| (spellings.len(), spellings.first())) {
            Some((1, Some(only))) => only.clone(),
            // Several spellings: the word stays as written and is reported as not found.
            Some(_) => word.to_owned(),
            None => folded,
        }
    }
}
