//! The catalog of one query: names are looked up when a statement uses them, at its index.
//!
//! Must not: list every dataset to find one. Invariant: a name that reaches [`MainSchema`] is exact; `sql`
//! folded it before.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::DataFusionError;

use alluvium_state_machine::catalog;
use alluvium_types::LogIndex;

use crate::Error;
use crate::metadata::DatasetAt;
use crate::sql::split_version;
use crate::system;
use crate::table::{DatasetTable, QueryScope};

/// The one catalog.
pub(crate) const CATALOG: &str = "alluvium";
/// The schema of datasets.
pub(crate) const MAIN: &str = "main";
/// The schema of tables about the log itself.
pub(crate) const SYSTEM: &str = "system";

/// The catalog of one query.
pub(crate) struct QueryCatalog {
    scope: Arc<QueryScope>,
}

impl QueryCatalog {
    pub(crate) fn new(scope: Arc<QueryScope>) -> Self {
        Self { scope }
    }
}

impl fmt::Debug for QueryCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QueryCatalog(at {})", self.scope.at)
    }
}

impl CatalogProviderList for QueryCatalog {
    fn register_catalog(
        &self,
        _name: String,
        _catalog: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        let scope = Arc::clone(&self.scope);
        (name == CATALOG).then(|| Arc::new(Self { scope }) as Arc<dyn CatalogProvider>)
    }
}

impl CatalogProvider for QueryCatalog {
    fn schema_names(&self) -> Vec<String> {
        vec![MAIN.to_owned(), SYSTEM.to_owned()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let scope = Arc::clone(&self.scope);
        match name {
            MAIN => Some(Arc::new(MainSchema { scope })),
            SYSTEM => Some(Arc::new(SystemSchema { scope })),
            _ => None,
        }
    }
}

struct MainSchema {
    scope: Arc<QueryScope>,
}

impl fmt::Debug for MainSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MainSchema")
    }
}

#[async_trait]
impl SchemaProvider for MainSchema {
    fn table_names(&self) -> Vec<String> {
        match catalog::list(self.scope.sources.view.as_ref(), self.scope.at) {
            Ok(datasets) => datasets.iter().map(|record| record.name.to_string()).collect(),
            Err(error) => {
                // The trait has no error; information_schema stays empty and the handler of errors knows.
                tracing::error!(%error, "list datasets for information_schema");
                Vec::new()
            }
        }
    }

    async fn table(&self, word: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let name = split_version(word);
        let at = name.version.unwrap_or(self.scope.at);
        if self.scope.at < at {
            return Err(Error::AsOfAhead { asked: at, at: self.scope.at }.into());
        }
        let Some(dataset) = DatasetAt::find(&self.scope.sources.view, &name.name, at)? else {
            return Ok(None);
        };
        Ok(Some(Arc::new(DatasetTable::new(dataset, Arc::clone(&self.scope)))))
    }

    fn table_exist(&self, word: &str) -> bool {
        let name = split_version(word);
        let at: LogIndex = name.version.unwrap_or(self.scope.at);
        matches!(DatasetAt::find(&self.scope.sources.view, &name.name, at), Ok(Some(_)))
    }
}

struct SystemSchema {
    scope: Arc<QueryScope>,
}

impl fmt::Debug for SystemSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemSchema")
    }
}

#[async_trait]
impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        system::NAMES.iter().map(|name| (*name).to_owned()).collect()
    }

    async fn table(&self, word: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let name = split_version(word);
        let at = name.version.unwrap_or(self.scope.at);
        if self.scope.at < at {
            return Err(Error::AsOfAhead { asked: at, at: self.scope.at }.into());
        }
        Ok(system::table(&name.name, at, &self.scope))
    }

    fn table_exist(&self, word: &str) -> bool {
        system::NAMES.contains(&split_version(word).name.as_str())
    }
}
