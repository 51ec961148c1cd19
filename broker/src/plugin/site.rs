//! What all generations on a node share.

use std::sync::Arc;

use super::incident::Reporter;
use super::log::Logs;
use super::meter::Labels;
use super::pool::Pool;
use super::run::Floor;
use super::turns::Turns;
use super::{Recorder, Sources};

pub(super) struct Site {
    pub(super) pool: Arc<Pool>,
    pub(super) turns: Arc<Turns>,
    pub(super) floor: Floor,
    pub(super) labels: Arc<Labels>,
    pub(super) logs: Arc<Logs>,
    pub(super) reporter: Reporter,
    pub(super) recorder: Arc<Recorder>,
    pub(super) sources: Arc<dyn Sources>,
}
