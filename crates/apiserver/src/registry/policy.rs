//! PodDisruptionBudgets.

use serde_json::Value;

use super::{Strategy, apps};

pub struct Budgets;

impl Strategy for Budgets {
    fn prepare_create(&self, new: &mut Value) {
        apps::clear_status(new);
    }
}
