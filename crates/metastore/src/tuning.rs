//! What RocksDB is told: how to read, how to keep, how much memory to take.
//!
//! It must not change what is stored. Invariant: what is read from a disk is checked.

use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, LruCacheOptions, Options, ReadOptions};

use crate::OpenOptions;
use crate::generation::Mode;

/// Open files of one generation.
const OPEN_FILES_MAX: i32 = 512;
const WRITE_BUFFERS: i32 = 3;
/// The part of a write buffer that says which keys it does not hold.
const MEMTABLE_BLOOM_RATIO: f64 = 0.02;
/// Few parts, so that each holds the largest block: the keys of one tombstone entry are one value, and a look at
/// the keys before it reads its block too. With RocksDB's own choice such a block never stays.
const CACHE_SHARD_BITS: i32 = 2;

pub(crate) fn read_options() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_verify_checksums(true);
    options
}

pub(crate) fn database_options(mode: Mode<'_>, options: &OpenOptions) -> Options {
    let mut blocks = BlockBasedOptions::default();
    let mut cache = LruCacheOptions::default();
    cache.set_capacity(options.block_cache_bytes);
    cache.set_num_shard_bits(CACHE_SHARD_BITS);
    blocks.set_block_cache(&Cache::new_lru_cache_opts(&cache));
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_bloom_filter(10.0, false);
    blocks.set_block_size(16 * 1024);
    let mut database = Options::default();
    database.create_if_missing(mode == Mode::Create);
    database.set_error_if_exists(mode == Mode::Create);
    database.set_paranoid_checks(true);
    database.set_block_based_table_factory(&blocks);
    database.set_compression_type(DBCompressionType::Lz4);
    database.set_write_buffer_size(options.write_buffer_bytes);
    database.set_max_write_buffer_number(WRITE_BUFFERS);
    // A command's number is asked for before it is answered: what is not there is found by a few bits.
    database.set_memtable_whole_key_filtering(true);
    database.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_RATIO);
    database.set_max_open_files(OPEN_FILES_MAX);
    database.set_max_background_jobs(2);
    database.set_keep_log_file_num(2);
    database.set_max_log_file_size(1024 * 1024);
    // One column family: the order of flushes is the order of batches, so no atomic flush is
    // needed.
    database
}
