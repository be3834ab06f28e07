//! Plans by the policy of tests/rewrite, over a real database's catalog.

use std::path::Path;
use std::sync::Arc;

use pgveil::catalog::{Catalog, Oid};
use pgveil::identity::Method;
use pgveil::policy::Policy;
use pgveil::sql::{self, Bounds, Context, Denial, Plan, Scope};

use super::postgres::Postgres;

const REWRITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rewrite");
const SCHEMA: &str = include_str!("../rewrite/schema.sql");

/// Everything that a plan depends on, besides the statement.
pub struct Planner {
    policy: Policy,
    pub catalog: Catalog,
}

impl Planner {
    /// Puts the schema into a database and reads its catalog.
    pub fn new(postgres: &Postgres) -> Self {
        postgres.psql(SCHEMA);
        postgres.psql(
            "CREATE ROLE proxy LOGIN; GRANT pg_read_all_data TO proxy; GRANT USAGE ON SCHEMA archive TO proxy",
        );
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let policy = Path::new(REWRITE).join("policy");
        runtime.block_on(Self::over(postgres, "proxy", &policy))
    }

    /// By another policy, over what a database holds already and that role sees.
    pub async fn over(postgres: &Postgres, role: &str, policy: &Path) -> Self {
        let loaded = pgveil::catalog::load::load(&postgres.target(role), 1).await;
        Self {
            policy: Policy::load(policy, 1).unwrap(),
            catalog: loaded.unwrap(),
        }
    }

    /// What would be sent for a caller's statements, whose parameters have those
    /// types.
    pub fn plan(
        &self,
        caller: &str,
        statement: &str,
        parameters: &[Oid],
    ) -> Result<Vec<Arc<Plan>>, Denial> {
        let principal = self.policy.principal(caller, Method::Scram).unwrap();
        let rights = self
            .policy
            .rights(&principal, "shop", jiff::Timestamp::UNIX_EPOCH);
        let scope = Scope {
            search_path: Arc::from(["$user".into(), "public".into()]),
            temporary: Arc::from(["scratch".into()]),
        };
        let context = Context {
            rights: &rights,
            catalog: &self.catalog,
            scope: &scope,
            parameters,
            bounds: Bounds::default(),
        };
        sql::plan(statement, context)
    }

    /// The text of the one statement that would be sent.
    pub fn text(&self, caller: &str, statement: &str, parameters: &[Oid]) -> String {
        match self.plan(caller, statement, parameters).as_deref() {
            Ok([plan]) => plan.text().to_owned(),
            other => panic!("{statement}: {other:?}"),
        }
    }
}
