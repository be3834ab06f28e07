//! Statements that change the schema, for who sees all of it.
//!
//! What they keep is run later, in others' sessions too. Invariant: a query in one is
//! governed like any other, and an expression calls no more than a query may; a part
//! that is not known refuses the statement.

use std::fmt::Write;

use pg_raw_parse::list::NodeList;
use pg_raw_parse::{Node, nodes};

use crate::policy::Action;

use super::canonical::Canonical;
use super::depth::Ground;
use super::query::{attributes, govern};
use super::splice::{Edit, apply};
use super::statement::{Kind, plan, planned, require};
use super::step::{Step, unless, wrong};
use super::survey::{Survey, Unknown, survey_expressions, type_site, unknown};
use super::{Context, Denial, Effect, Plan, Reason, functions, gate, operators, temporary, types};

/// Decides one that concerns more than temporary tables.
pub(super) fn decide(canonical: &Canonical, context: &Context<'_>) -> Result<Plan, Denial> {
    unless(Step::Action, allowed(context))?;
    let made = match canonical.node() {
        Node::CreateTableAsStmt(_) => planned(Kind::Ddl, govern(canonical, context)?, Effect::Ddl),
        Node::ViewStmt(view) => {
            unless(Step::Lasting, lasting(view))?;
            planned(Kind::Ddl, govern(canonical, context)?, Effect::Ddl)
        }
        other => {
            let edits = match edits(other, context) {
                Err(_) if wrong(Step::Definition) => Vec::new(),
                edits => edits?,
            };
            let text = apply(&canonical.text, edits)
                .ok_or_else(|| Denial::new(Reason::Referee, "the rewriter's edits overlap"))?;
            plan(Kind::Ddl.label(), text.into(), Effect::Ddl, None)
        }
    };
    Ok(Plan {
        action: Some(Action::Ddl),
        ..made
    })
}

/// Whether the caller may change the schema at all.
pub(super) fn allowed(context: &Context<'_>) -> Result<(), Denial> {
    require(context, Action::Ddl, "changing the schema")?;
    match context.rights.all_clear() {
        true => Ok(()),
        false => Err(Denial::new(
            Reason::Policy,
            "changing the schema is refused: what it reads or writes would not be masked",
        )
        .hint("it takes an identity that sees the whole dataset in clear")),
    }
}

/// A view of the session's own is in no catalog, and could not be found again.
pub(super) fn lasting(view: &nodes::ViewStmt) -> Result<(), Denial> {
    match view.view().is_some_and(temporary::is_temporary) {
        false => Ok(()),
        true => Err(
            Denial::new(Reason::Unsupported, "a temporary view is not served")
                .hint("use CREATE TEMP TABLE … AS, or a common table expression"),
        ),
    }
}

/// What has to be written into a statement so that its names mean what was allowed:
/// nothing, where they carry their schemas already.
pub(super) fn edits(statement: Node<'_>, context: &Context<'_>) -> Result<Vec<Edit>, Denial> {
    let mut parts = Parts::default();
    let expressive = parts.statement(statement)?;
    let mut found = survey_expressions(parts.expressions.iter().copied())?;
    for name in &parts.operators {
        found.operator(name)?;
    }
    whole(statement, &found, &parts, expressive)?;
    let mut edits = gate::pass(&found, context, |_| false)?;
    attributes(&found, None, context)?;
    for site in &found.functions {
        let schema = functions::allow(site, context)?;
        if site.schema.is_none() && !functions::is_open(site, context) {
            edits.push(Edit {
                start: site.start,
                end: site.start,
                text: functions::prefix(&schema),
            });
        }
    }
    for name in &parts.types {
        let site = type_site(name)?;
        if !types::is_serial(&site) {
            edits.extend(types::allow(&site, context).map_err(in_transaction)?);
        }
    }
    for class in &parts.classes {
        operators::class(class, context)?;
    }
    Ok(edits)
}

/// What a transaction makes is in no catalog that others can read.
fn in_transaction(denial: Denial) -> Denial {
    match denial.reason {
        Reason::UnknownType => {
            denial.hint("a type is known once the transaction that makes it has ended")
        }
        _ => denial,
    }
}

/// Whether nothing that could run was left out, by the tree's own account of itself:
/// what is not listed in [`Parts`] refuses the statement, and so does a query.
fn whole(
    statement: Node<'_>,
    found: &Survey,
    parts: &Parts<'_>,
    expressive: bool,
) -> Result<(), Denial> {
    let mut printed = Measured {
        ground: Ground::here(),
        text: String::new(),
    };
    write!(printed, "{statement:?}").map_err(|_| Denial::too_deep())?;
    let all = |node: &str| printed.text.matches(&format!("{node} {{")).count();
    if all("SelectStmt") > 0 || !found.relations.is_empty() {
        return Err(Denial::new(
            Reason::Unsupported,
            "a query inside a definition is not served",
        )
        .hint("use CREATE TABLE … AS or CREATE VIEW"));
    }
    let types = found.types.len() + parts.types.len();
    let is_whole = all("FuncCall") == found.functions.len()
        && all("A_Expr") == found.expressions
        && all("ColumnRef") == found.columns.len()
        // Of other statements they name objects: a function by its arguments.
        && (!expressive || all("TypeName") == types);
    match is_whole {
        true => Ok(()),
        false => Err(Denial::new(
            Reason::Unsupported,
            format!("syntax inside `{}` is not served", unknown(statement)),
        )
        .hint("run it on the database itself, as an administrator")),
    }
}

/// A text whose writer may not go too deep.
struct Measured {
    ground: Ground,
    text: String,
}

impl Write for Measured {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.ground.check().map_err(|_| std::fmt::Error)?;
        self.text.push_str(text);
        Ok(())
    }
}

/// What a statement holds that can run, now or later.
#[derive(Default)]
struct Parts<'n> {
    expressions: Vec<Node<'n>>,
    /// Of columns, and beneath domains.
    types: Vec<&'n nodes::TypeName>,
    /// Names of operators in exclusion constraints.
    operators: Vec<&'n NodeList>,
    /// Names of operator classes, of indexes and partition keys.
    classes: Vec<&'n NodeList>,
}

impl<'n> Parts<'n> {
    /// Whether statements of the kind have any.
    fn statement(&mut self, statement: Node<'n>) -> Result<bool, Denial> {
        match statement {
            Node::CreateStmt(create) => {
                for element in create.table_elts() {
                    self.element(element)?;
                }
                for constraint in create.constraints().iter() {
                    self.constraint(constraint)?;
                }
                for elem in create
                    .partspec()
                    .into_iter()
                    .flat_map(|spec| spec.part_params().iter())
                {
                    self.expression(elem.expr());
                    self.class(elem.opclass());
                }
                self.bound(create.partbound());
                self.types.extend(create.of_typename());
            }
            Node::AlterTableStmt(alter) => {
                for command in alter.cmds() {
                    match command {
                        Node::AlterTableCmd(command) => self.command(command.def())?,
                        other => return Err(unknown(other).into()),
                    }
                }
            }
            Node::IndexStmt(index) => {
                for elem in index.index_params().iter() {
                    self.expression(elem.expr());
                    self.class(elem.opclass());
                }
                self.expression(index.where_clause());
            }
            Node::CreateDomainStmt(domain) => {
                self.types.extend(domain.type_name());
                for constraint in domain.constraints().iter() {
                    self.constraint(constraint)?;
                }
            }
            Node::AlterDomainStmt(domain) => self.command(domain.def())?,
            Node::CompositeTypeStmt(composite) => {
                for column in composite.coldeflist().iter() {
                    self.column(column)?;
                }
            }
            Node::CreateSchemaStmt(schema) if !schema.schema_elts().is_empty() => {
                return Err(Denial::new(
                    Reason::Unsupported,
                    "CREATE SCHEMA with what is in it is not served",
                )
                .hint("create the schema, then each object"));
            }
            Node::AlterEnumStmt(_)
            | Node::AlterObjectSchemaStmt(_)
            | Node::AlterOwnerStmt(_)
            | Node::AlterSeqStmt(_)
            | Node::CommentStmt(_)
            | Node::CreateEnumStmt(_)
            | Node::CreateSchemaStmt(_)
            | Node::CreateSeqStmt(_)
            | Node::DropStmt(_)
            | Node::RefreshMatViewStmt(_)
            | Node::RenameStmt(_)
            | Node::VacuumStmt(_) => return Ok(false),
            other => return Err(unknown(other).into()),
        }
        Ok(true)
    }

    fn class(&mut self, name: &'n NodeList) {
        if !name.is_empty() {
            self.classes.push(name);
        }
    }

    fn expression(&mut self, node: Node<'n>) {
        if !matches!(node, Node::None) {
            self.expressions.push(node);
        }
    }

    fn element(&mut self, element: Node<'n>) -> Result<(), Unknown> {
        match element {
            Node::ColumnDef(column) => self.column(column),
            Node::Constraint(constraint) => self.constraint(constraint),
            Node::TableLikeClause(_) => Ok(()),
            other => Err(unknown(other)),
        }
    }

    /// Also ALTER COLUMN … TYPE, whose USING stands where a default would.
    fn column(&mut self, column: &'n nodes::ColumnDef) -> Result<(), Unknown> {
        self.types.extend(column.type_name());
        self.expression(column.raw_default());
        for constraint in column.constraints() {
            match constraint {
                Node::Constraint(constraint) => self.constraint(constraint)?,
                // COLLATE stands among them in some grammars.
                Node::CollateClause(_) => {}
                other => return Err(unknown(other)),
            }
        }
        Ok(())
    }

    fn constraint(&mut self, constraint: &'n nodes::Constraint) -> Result<(), Unknown> {
        self.expression(constraint.raw_expr());
        self.expression(constraint.where_clause());
        for exclusion in constraint.exclusions() {
            let Node::NodeList(pair) = exclusion else {
                return Err(unknown(exclusion));
            };
            for part in pair {
                match part {
                    Node::IndexElem(elem) => {
                        self.expression(elem.expr());
                        self.class(elem.opclass());
                    }
                    Node::NodeList(operator) => self.operators.push(operator),
                    other => return Err(unknown(other)),
                }
            }
        }
        Ok(())
    }

    fn bound(&mut self, bound: Option<&'n nodes::PartitionBoundSpec>) {
        let Some(bound) = bound else { return };
        for list in [bound.listdatums(), bound.lowerdatums(), bound.upperdatums()] {
            for datum in list {
                self.expression(datum);
            }
        }
    }

    /// What a command of ALTER TABLE or ALTER DOMAIN is given.
    fn command(&mut self, given: Node<'n>) -> Result<(), Unknown> {
        match given {
            Node::ColumnDef(_) | Node::Constraint(_) => self.element(given)?,
            Node::PartitionCmd(partition) => self.bound(partition.bound()),
            Node::TypeName(name) => self.types.push(name),
            // Names, numbers and options.
            Node::None
            | Node::ATAlterConstraint(_)
            | Node::DefElem(_)
            | Node::Integer(_)
            | Node::NodeList(_)
            | Node::RangeVar(_)
            | Node::ReplicaIdentityStmt(_)
            | Node::RoleSpec(_)
            | Node::String(_) => {}
            expression => self.expression(expression),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Tell;
    use crate::sql::{Bounds, Catalog, Rights, Scope, canonical, guarded};

    /// A definition may be as long as a message that is no query, and so as deep.
    #[test]
    fn no_definition_exhausts_the_stack() {
        let forms = [
            ("CREATE TABLE t (a integer DEFAULT ", "- ", "a)"),
            ("CREATE TABLE t (a integer CHECK (", "NOT ", "true))"),
            ("CREATE TABLE t (a varchar(", "- ", "a))"),
            (
                "ALTER TABLE t ALTER COLUMN a TYPE integer USING ",
                "- ",
                "a",
            ),
            ("CREATE INDEX ON t ((", "- ", "a))"),
        ];
        let deep = move || {
            let (rights, catalog) = (Rights::default(), Catalog::default());
            let context = Context {
                bounds: Bounds::default(),
                rights: &rights,
                catalog: &catalog,
                scope: &Scope::default(),
                parameters: &[],
            };
            for (before, each, after) in forms {
                for size in [8 << 10, 60 << 10] {
                    let text = format!("{before}{}{after}", each.repeat(size / each.len()));
                    let decided = guarded(|| {
                        let all = canonical::statements(&text, context.bounds)?;
                        all.iter()
                            .try_for_each(|one| edits(one.node(), &context).map(drop))
                    });
                    let state = decided.map_err(|denial| denial.tell().state.0).err();
                    // Operators are not there: this catalog is empty.
                    let known = matches!(state, None | Some("54001" | "42883" | "42601" | "42704"));
                    assert!(known, "{before} of {size}: {state:?}");
                }
            }
        };
        let thread = std::thread::Builder::new().stack_size(64 << 20);
        assert!(thread.spawn(deep).is_ok_and(|thread| thread.join().is_ok()));
    }
}
