//! A DataFusion session for one query: its catalog, its memory, its stores; functions are shared.
//!
//! Must not: let a statement register, set or write anything. Invariant: building one costs the same however
//! many datasets there are.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::cache::cache_manager::{CacheManager, CacheManagerConfig};
use datafusion::execution::context::SessionState;
use datafusion::execution::disk_manager::{DiskManager, DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::SessionConfig;

use crate::Error;
use crate::catalog::QueryCatalog;
use crate::stores::QueryStores;

/// The consumers that a memory error names.
const CONSUMERS_NAMED: usize = 3;
/// The part of a query's memory that each sort sets aside for its merge.
const MERGE_SHARE: usize = 16;
/// The most that a sort sets aside for its merge.
const MERGE_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Memory of a query for each part of its plan that runs at once: with less, the parts together hold what the
/// operator that joins them needs, and the query fails where fewer parts would have spilled.
const PARTITION_BYTES: usize = 64 * 1024 * 1024;
/// Files above this are read by several parts of a plan.
const SPLIT_FILE_BYTES: usize = 1024 * 1024;
/// Rows of a batch between operators.
const BATCH_ROWS: usize = 8_192;

/// What all queries share.
pub(crate) struct SharedSession {
    template: SessionState,
    caches: Arc<CacheManager>,
    spill_dir: PathBuf,
}

impl SharedSession {
    pub(crate) fn new(spill_dir: PathBuf, target_partitions: usize) -> Result<Self, Error> {
        let setup = |source| Error::Setup { source: Arc::new(source) };
        let caches = CacheManager::try_new(&CacheManagerConfig::default()).map_err(setup)?;
        let mut config = SessionConfig::new()
            .with_default_catalog_and_schema(crate::catalog::CATALOG, crate::catalog::MAIN)
            .with_create_default_catalog_and_schema(false)
            .with_information_schema(true)
            .with_target_partitions(target_partitions.max(1))
            .with_batch_size(BATCH_ROWS);
        let options = config.options_mut();
        // A file of this size is worth a second thread.
        options.optimizer.repartition_file_min_size = SPLIT_FILE_BYTES;
        // Names are folded by `sql::fold`; a second folding would disagree with it.
        options.sql_parser.enable_ident_normalization = false;
        // Text keeps the type that the dataset's schema says.
        options.sql_parser.map_string_types_to_utf8view = false;
        let template =
            SessionStateBuilder::new().with_config(config).with_default_features().build();
        Ok(Self { template, caches, spill_dir })
    }

    /// Returns the session of one query.
    pub(crate) fn open(
        &self,
        catalog: Arc<QueryCatalog>,
        stores: Arc<QueryStores>,
        memory_bytes: usize,
    ) -> Result<SessionState, Error> {
        let named = std::num::NonZeroUsize::new(CONSUMERS_NAMED).expect("it is not zero");
        let pool = TrackConsumersPool::new(FairSpillPool::new(memory_bytes), named);
        let runtime = RuntimeEnv {
            memory_pool: Arc::new(pool),
            disk_manager: Arc::new(self.disk()?),
            cache_manager: Arc::clone(&self.caches),
            object_store_registry: stores,
        };
        let mut config = self.template.config().clone();
        // Set aside for merging spilled runs; the default alone would fill a small query's memory.
        let merge_bytes = (memory_bytes / MERGE_SHARE).min(MERGE_BYTES_MAX);
        config.options_mut().execution.sort_spill_reservation_bytes = merge_bytes;
        let partitions = config.target_partitions().min(memory_bytes / PARTITION_BYTES).max(1);
        let config = config.with_target_partitions(partitions);
        let state = SessionStateBuilder::new_from_existing(self.template.clone())
            .with_config(config)
            .with_runtime_env(Arc::new(runtime))
            .with_catalog_list(catalog)
            .build();
        Ok(state)
    }

    /// Each query has its own: its spill files go with it.
    fn disk(&self) -> Result<DiskManager, Error> {
        let build = |mode| DiskManagerBuilder::default().with_mode(mode).build();
        let built = match build(DiskManagerMode::Directories(vec![self.spill_dir.clone()])) {
            // A full disk takes no spill files, but most queries make none.
            Err(error) if is_full(&error) => build(DiskManagerMode::Disabled),
            built => built,
        };
        built.map_err(|source| Error::Setup { source: Arc::new(source) })
    }
}

fn is_full(error: &DataFusionError) -> bool {
    let DataFusionError::IoError(error) = error.find_root() else { return false };
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}
