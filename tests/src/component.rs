//! Components of the workspace's plugins, compiled as a test needs them.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use wasm_encoder::{
    CodeSection, ComponentSection, ConstExpr, ElementSection, Elements, Function, FunctionSection, GlobalSection,
    GlobalType, InstanceSection, MemorySection, MemoryType, Module, ModuleArg, ModuleSection, RefType, TableSection,
    TableType, TypeSection, ValType,
};

use crate::process;

/// The path of the component of a plugin in `tests/plugins` or `plugins/examples`. It is compiled when a test first asks
/// for it.
///
/// # Panics
/// When it does not compile.
pub fn plugin(package: &'static str) -> &'static str {
    compiled(package, Build::default())
}

/// The same with a cargo feature, as another version of the plugin.
///
/// # Panics
/// When it does not compile.
pub fn plugin_with(package: &'static str, feature: &'static str) -> &'static str {
    compiled(package, Build { feature: Some(feature), names: false })
}

/// The same with the names of its functions, as the manual tells authors to build it.
///
/// # Panics
/// When it does not compile.
pub fn plugin_with_names(package: &'static str) -> &'static str {
    compiled(package, Build { feature: None, names: true })
}

/// Has the broker's program compile a component as a broker does, within so many bytes of memory and seconds of a
/// processor. How it ended, and how many bytes of machine code came of it.
///
/// # Panics
/// When the program does not start.
pub fn compile_within(component: &[u8], memory: u64, seconds: u64) -> (ExitStatus, usize) {
    let mut child = Command::new(process::program())
        .args(["compile-plugin", "--seconds", &seconds.to_string(), "--memory", &memory.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the broker's program starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let output = thread::scope(|scope| {
        // It may end before it has read all.
        scope.spawn(move || stdin.write_all(component));
        child.wait_with_output().expect("it was started")
    });
    (output.status, output.stdout.len())
}

/// A component with a core module beside the others that nothing uses and that takes long to compile: so many functions,
/// each of ten thousand steps.
///
/// # Panics
/// When there is no such file.
pub fn with_much_code(component: &str, functions: u32) -> Vec<u8> {
    let mut steps = Function::new([(1, ValType::I32)]);
    for step in 0..2_500 {
        steps.instructions().local_get(1).i32_const(step).i32_add().local_set(0).local_get(0).i32_const(7).i32_mul();
        steps.instructions().local_set(1);
    }
    steps.instructions().local_get(1).end();
    let (mut types, mut declared, mut code) = (TypeSection::new(), FunctionSection::new(), CodeSection::new());
    types.ty().function([ValType::I32], [ValType::I32]);
    for _ in 0..functions {
        declared.function(0);
        code.function(&steps);
    }
    let mut module = Module::new();
    module.section(&types).section(&declared).section(&code);
    let mut bytes = std::fs::read(component).unwrap_or_else(|error| panic!("{component}: {error}"));
    ModuleSection(&module).append_to_component(&mut bytes);
    bytes
}

/// A component with a core module beside the others, of which each instance of the component has so many instances.
///
/// # Panics
/// When there is no such file.
pub fn with_instances(component: &str, part: &Part, times: u32) -> Vec<u8> {
    let mut bytes = std::fs::read(component).unwrap_or_else(|error| panic!("{component}: {error}"));
    let number = core_modules(&bytes);
    let mut instances = InstanceSection::new();
    for _ in 0..times {
        instances.instantiate::<[(&str, ModuleArg); 0], _>(number, []);
    }
    ModuleSection(&part.module()).append_to_component(&mut bytes);
    instances.append_to_component(&mut bytes);
    bytes
}

/// What a core module is made of.
#[derive(Debug, Clone, Copy)]
pub enum Part {
    /// So many globals.
    Globals(u32),
    /// So many functions to which there are references.
    References(u32),
    /// So many memories of so many pages of 64 KiB.
    Memories(u32, u64),
    /// So many tables of so many elements.
    Tables(u32, u64),
}

impl Part {
    fn module(&self) -> Module {
        let mut module = Module::new();
        match *self {
            Part::Globals(count) => {
                let mut globals = GlobalSection::new();
                let kind = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
                for _ in 0..count {
                    globals.global(kind, &ConstExpr::i32_const(0));
                }
                module.section(&globals);
            }
            Part::References(count) => {
                let (mut types, mut functions, mut code) =
                    (TypeSection::new(), FunctionSection::new(), CodeSection::new());
                types.ty().function([], []);
                let (mut nothing, numbers): (_, Vec<u32>) = (Function::new([]), (0..count).collect());
                nothing.instructions().end();
                for _ in 0..count {
                    functions.function(0);
                    code.function(&nothing);
                }
                let mut elements = ElementSection::new();
                elements.declared(Elements::Functions(numbers.into()));
                module.section(&types).section(&functions).section(&elements).section(&code);
            }
            Part::Memories(count, minimum) => {
                let mut memories = MemorySection::new();
                let kind = MemoryType { minimum, maximum: None, memory64: false, shared: false, page_size_log2: None };
                for _ in 0..count {
                    memories.memory(kind);
                }
                module.section(&memories);
            }
            Part::Tables(count, minimum) => {
                let mut tables = TableSection::new();
                let kind =
                    TableType { element_type: RefType::FUNCREF, minimum, maximum: None, table64: false, shared: false };
                for _ in 0..count {
                    tables.table(kind);
                }
                module.section(&tables);
            }
        }
        module
    }
}

/// How many core modules a component has: the sections of their kind, after the head of eight bytes.
fn core_modules(component: &[u8]) -> u32 {
    const CORE_MODULE: u8 = 1;
    let (mut at, mut found) = (8, 0);
    while at < component.len() {
        found += u32::from(component[at] == CORE_MODULE);
        let (mut length, mut shift) = (0usize, 0);
        loop {
            at += 1;
            length |= usize::from(component[at] & 0x7f) << shift;
            shift += 7;
            if component[at] & 0x80 == 0 {
                break;
            }
        }
        at += 1 + length;
    }
    found
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Build {
    feature: Option<&'static str>,
    names: bool,
}

fn compiled(package: &'static str, build: Build) -> &'static str {
    type Known = BTreeMap<(&'static str, Build), &'static str>;
    static COMPILED: Mutex<Known> = Mutex::new(BTreeMap::new());
    // Others wait meanwhile, as they would for cargo's own lock.
    let mut known = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry((package, build)).or_insert_with(|| compile(package, build).leak())
}

fn compile(package: &str, build: Build) -> String {
    // Where the broker's own build puts the built-in ones: what they share is compiled once.
    let target = process::profile().with_file_name("plugins");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--package", package, "--profile", "plugin", "--target", "wasm32-wasip2"])
        .args(build.feature.map(|feature| format!("--features={feature}")))
        .args(build.names.then_some("--config=profile.plugin.strip='debuginfo'"))
        .arg("--target-dir")
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        // Set by tests/run for its own sake; build scripts of dependencies would look at it and be compiled anew.
        .env_remove("RUSTC_BOOTSTRAP")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the plugin {package} compiles");
    let built = target.join("wasm32-wasip2/plugin").join(format!("{}.wasm", package.replace('-', "_")));
    // The next build of the package, with another feature or none, takes the place of this one.
    let folder = target.join("for-tests");
    let variant = build.feature.map(|name| format!("-{name}")).unwrap_or_default();
    let kept = folder.join(format!("{package}{variant}{}.wasm", if build.names { "-named" } else { "" }));
    std::fs::create_dir_all(&folder).expect("the target folder is writable");
    std::fs::copy(&built, &kept).expect("the target folder is writable");
    kept.into_os_string().into_string().expect("a path in UTF-8")
}
