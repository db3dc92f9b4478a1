#include "CLua.h"

#include <limits.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

// MARK: - A second stack
//
// makecontext lays the first frame; from then on _setjmp and _longjmp switch, which keep the signal mask and so need no system
// call. The stack outlives the calls on it: when one returns, the next starts where it was.

struct martlet_fiber {
    jmp_buf outside;
    jmp_buf inside;
    ucontext_t context;
    char *memory;
    size_t memory_bytes;
    void (*entry)(void *);
    void *argument;
    int is_laid;
    int is_finished;
};

static void fiber_main(unsigned int high, unsigned int low) {
    martlet_fiber *fiber = (martlet_fiber *)(uintptr_t)((uint64_t)high << 32 | low);
    for (;;) {
        fiber->entry(fiber->argument);
        fiber->is_finished = 1;
        martlet_fiber_leave(fiber);
    }
}

martlet_fiber *martlet_fiber_create(size_t stack_bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    martlet_fiber *fiber = calloc(1, sizeof(martlet_fiber));
    if (!fiber) return NULL;
    fiber->memory_bytes = (stack_bytes + page - 1) / page * page + page;
    fiber->memory = mmap(
        NULL, fiber->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (fiber->memory == MAP_FAILED || mprotect(fiber->memory, page, PROT_NONE) != 0) {
        if (fiber->memory != MAP_FAILED) munmap(fiber->memory, fiber->memory_bytes);
        free(fiber);
        return NULL;
    }
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->memory + page;
    fiber->context.uc_stack.ss_size = fiber->memory_bytes - page;
    fiber->context.uc_link = NULL;
    uint64_t address = (uint64_t)(uintptr_t)fiber;
    makecontext(&fiber->context, (void (*)(void))fiber_main, 2, (unsigned int)(address >> 32), (unsigned int)address);
    return fiber;
}

void martlet_fiber_destroy(martlet_fiber *fiber) {
    munmap(fiber->memory, fiber->memory_bytes);
    free(fiber);
}

int32_t martlet_fiber_resume(martlet_fiber *fiber) {
    if (_setjmp(fiber->outside) == 0) {
        if (fiber->is_laid) _longjmp(fiber->inside, 1);
        fiber->is_laid = 1;
        setcontext(&fiber->context);
    }
    return fiber->is_finished;
}

int32_t martlet_fiber_start(martlet_fiber *fiber, void (*entry)(void *), void *argument) {
    fiber->entry = entry;
    fiber->argument = argument;
    fiber->is_finished = 0;
    return martlet_fiber_resume(fiber);
}

void martlet_fiber_leave(martlet_fiber *fiber) {
    if (_setjmp(fiber->inside) == 0) _longjmp(fiber->outside, 1);
}

// MARK: - Memory

static void *allocate(void *context, void *block, size_t old_size, size_t new_size) {
    martlet_lua *lua = context;
    if (new_size == 0) {
        if (block) free(block);
        lua->bytes -= old_size;
        return NULL;
    }
    if (new_size > old_size && !lua->infallible) {
        size_t left = lua->bytes_max > lua->bytes ? lua->bytes_max - lua->bytes : 0;
        if (new_size - old_size > left) return NULL;
    }
    void *result = block ? realloc(block, new_size) : malloc(new_size);
    if (!result) {
        if (lua->infallible) abort();
        return NULL;
    }
    lua->bytes += new_size - old_size;
    return result;
}

martlet_lua *martlet_lua_of(lua_State *L) {
    void *context;
    lua_getallocf(L, &context);
    return context;
}

// MARK: - Swift functions

/// Bytes of work after which the clock is looked at, whatever the count of instructions. Less than a millisecond's work.
enum { work_max = 1 << 18 };

static void look_at_clock(lua_State *L);

static int trampoline(lua_State *L) {
    martlet_lua *lua = martlet_lua_of(L);
    martlet_lua_function function = (martlet_lua_function)(uintptr_t)lua_touserdata(L, lua_upvalueindex(1));
    lua->infallible++;
    int32_t results = function(L);
    lua->infallible--;
    if (lua->work > work_max) look_at_clock(L);
    return results >= 0 ? results : lua_error(L);
}

void martlet_lua_push_closure(lua_State *L, martlet_lua_function function, int32_t upvalues) {
    lua_pushlightuserdata(L, (void *)(uintptr_t)function);
    lua_insert(L, -1 - upvalues);
    lua_pushcclosure(L, trampoline, 1 + upvalues);
}

void martlet_lua_push_function(lua_State *L, martlet_lua_function function) { martlet_lua_push_closure(L, function, 0); }

void martlet_lua_raw_set_field(lua_State *L, int32_t index, const char *name) {
    if (index < 0 && index > LUA_REGISTRYINDEX) index -= 1;
    lua_pushstring(L, name);
    lua_insert(L, -2);
    lua_rawset(L, index);
}

int32_t martlet_lua_raw_get_field(lua_State *L, int32_t index, const char *name) {
    if (index < 0 && index > LUA_REGISTRYINDEX) index -= 1;
    lua_pushstring(L, name);
    lua_rawget(L, index);
    return lua_type(L, -1);
}

void martlet_lua_set_function(lua_State *L, const char *name, martlet_lua_function function) {
    martlet_lua_push_function(L, function);
    martlet_lua_raw_set_field(L, -2, name);
}

void martlet_lua_set_number(lua_State *L, const char *name, double number) {
    lua_pushnumber(L, number);
    martlet_lua_raw_set_field(L, -2, name);
}

void martlet_lua_set_string(lua_State *L, const char *name, const char *text) {
    lua_pushstring(L, text);
    martlet_lua_raw_set_field(L, -2, name);
}

void martlet_lua_open(lua_State *L, const char *name, lua_CFunction open) {
    lua_pushcfunction(L, open);
    lua_pushstring(L, name);
    lua_call(L, 1, 0);
}

// MARK: - Numbers as text

int32_t martlet_format_number(char *text, size_t size, int32_t digits, double number) {
    return snprintf(text, size, "%.*g", digits, number);
}

double martlet_parse_number(const char *text, size_t *length) {
    char *end;
    double number = strtod(text, &end);
    *length = (size_t)(end - text);
    return number;
}

// MARK: - Protected tables
//
// Stock Lua has no read-only tables. What scripts get in place of a protected table is an empty one whose metatable finds
// fields in the real one and refuses new ones; the real table is never handed out. Functions of the libraries that look into a
// table without its metatable (next, rawget …) or change it (rawset, table.insert …) are wrapped below.

static const char protection_marker;
static const char visited_marker;

/// Whether there is a protected table at `index`. Pushes the real one if so.
static int push_real_table(lua_State *L, int index) {
    if (!lua_istable(L, index) || !lua_getmetatable(L, index)) return 0;
    lua_pushlightuserdata(L, (void *)&protection_marker);
    lua_rawget(L, -2);
    lua_remove(L, -2);
    if (lua_istable(L, -1)) return 1;
    lua_pop(L, 1);
    return 0;
}

void martlet_lua_reveal(lua_State *L) {
    if (push_real_table(L, lua_gettop(L))) lua_replace(L, -2);
}

static int is_protected(lua_State *L, int index) {
    if (!push_real_table(L, index)) return 0;
    lua_pop(L, 1);
    return 1;
}

static int raise_read_only(lua_State *L) {
    lua_pushliteral(L, "Attempt to modify a readonly table");
    return lua_error(L);
}

/// An assignment: the error says where it stands.
static int refuse_assignment(lua_State *L) { return luaL_error(L, "Attempt to modify a readonly table"); }

/// Pushes the protected form of the table on top, which stays. A table that was protected before gets the same form.
static void push_protected(lua_State *L) {
    luaL_checkstack(L, 8, "too many nested tables");
    int real = lua_gettop(L);
    if (is_protected(L, real)) {
        lua_pushvalue(L, real);
        return;
    }
    lua_pushlightuserdata(L, (void *)&visited_marker);
    lua_rawget(L, LUA_REGISTRYINDEX);
    int visited = lua_gettop(L);
    lua_pushvalue(L, real);
    lua_rawget(L, visited);
    if (!lua_isnil(L, -1)) {
        lua_replace(L, visited);
        return;
    }
    lua_pop(L, 1);

    lua_createtable(L, 0, 0);
    int form = lua_gettop(L);
    lua_pushvalue(L, real);
    lua_pushvalue(L, form);
    lua_rawset(L, visited);
    lua_createtable(L, 0, 4);
    lua_pushlightuserdata(L, (void *)&protection_marker);
    lua_pushvalue(L, real);
    lua_rawset(L, -3);
    lua_pushvalue(L, real);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, refuse_assignment);
    lua_setfield(L, -2, "__newindex");
    lua_setmetatable(L, form);

    lua_pushnil(L);
    while (lua_next(L, real)) {
        if (lua_istable(L, -1)) {
            push_protected(L);
            // To an existing field, which a traversal allows.
            lua_pushvalue(L, -3);
            lua_insert(L, -2);
            lua_rawset(L, real);
        }
        lua_pop(L, 1);
    }
    if (lua_getmetatable(L, real)) {
        push_protected(L);
        lua_getmetatable(L, form);
        lua_insert(L, -2);
        lua_setfield(L, -2, "__metatable");
        lua_pop(L, 2);
    }
    lua_replace(L, visited);
    lua_settop(L, visited);
}

void martlet_lua_protect(lua_State *L) {
    push_protected(L);
    lua_remove(L, -2);
}

static int refuse_missing(lua_State *L) {
    if (lua_gettop(L) != 2) return luaL_error(L, "Wrong number of arguments to luaProtectedTableError");
    if (!lua_isstring(L, -1)) {
        return luaL_error(L, "Second argument to luaProtectedTableError must be a string or number");
    }
    return luaL_error(L, "Script attempted to access nonexistent global variable '%s'", lua_tostring(L, -1));
}

void martlet_lua_refuse_missing(lua_State *L) {
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, refuse_missing);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
}

void martlet_lua_protect_globals(martlet_lua *lua) {
    lua_State *L = lua->state;
    // Of basic types only strings have a metatable. Lua reads it without asking, so it stays, and shows a protected one.
    lua_pushliteral(L, "");
    if (lua_getmetatable(L, -1)) {
        push_protected(L);
        lua_setfield(L, -2, "__metatable");
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    lua_pushvalue(L, -1);
    lua->globals = luaL_ref(L, LUA_REGISTRYINDEX);
    martlet_lua_protect(L);
    lua_pushvalue(L, -1);
    lua->shown_globals = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_replace(L, LUA_GLOBALSINDEX);
}

// MARK: - Base library

static int base_rawset(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checkany(L, 2);
    luaL_checkany(L, 3);
    lua_settop(L, 3);
    if (is_protected(L, 1)) return raise_read_only(L);
    lua_rawset(L, 1);
    return 1;
}

static int base_rawget(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checkany(L, 2);
    lua_settop(L, 2);
    if (push_real_table(L, 1)) lua_replace(L, 1);
    lua_rawget(L, 1);
    return 1;
}

static int base_next(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    if (push_real_table(L, 1)) lua_replace(L, 1);
    if (lua_next(L, 1)) return 2;
    lua_pushnil(L);
    return 1;
}

static int base_pairs(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

static int base_setmetatable(lua_State *L) {
    int type = lua_type(L, 2);
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argcheck(L, type == LUA_TNIL || type == LUA_TTABLE, 2, "nil or table expected");
    if (is_protected(L, 1)) return raise_read_only(L);
    if (luaL_getmetafield(L, 1, "__metatable")) luaL_error(L, "cannot change a protected metatable");
    lua_settop(L, 2);
    lua_setmetatable(L, 1);
    return 1;
}

static int base_getmetatable(lua_State *L) {
    luaL_checkany(L, 1);
    int is_shielded = is_protected(L, 1);
    if (!lua_getmetatable(L, 1)) {
        lua_pushnil(L);
        return 1;
    }
    // What shields a protected table is not for scripts to see; its real metatable is, in protected form.
    if (!luaL_getmetafield(L, 1, "__metatable") && is_shielded) lua_pushnil(L);
    return 1;
}

/// Lua's own overflows for the widest ranges. (CVE-2025-46817)
static int base_unpack(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    int first = luaL_optint(L, 2, 1);
    int last = lua_isnoneornil(L, 3) ? (int)lua_objlen(L, 1) : luaL_checkint(L, 3);
    if (first > last) return 0;
    int64_t count = (int64_t)last - first + 1;
    if (count >= INT_MAX || !lua_checkstack(L, (int)count)) return luaL_error(L, "too many results to unpack");
    for (int64_t index = first; index <= last; index++) lua_rawgeti(L, 1, (int)index);
    return (int)count;
}

// Text only: a first chunk of one space keeps the parser from looking for bytecode, whatever follows. The name is kept on the
// stack because Lua's parser does not anchor it, and a collection in its midst would free it. (CVE-2025-49844) The length is
// limited because the lexer counts in ints, which wrap at twice the `=` of a long bracket. (CVE-2025-46819)

/// Of one chunk.
enum { text_bytes_max = 1 << 28 };

typedef struct {
    const char *text;
    size_t size;
    int is_started;
} text_source;

static const char *read_text(lua_State *L, void *context, size_t *size) {
    (void)L;
    text_source *source = context;
    if (!source->is_started) {
        source->is_started = 1;
        *size = 1;
        return " ";
    }
    *size = source->size;
    source->size = 0;
    return *size > 0 ? source->text : NULL;
}

int32_t martlet_lua_load(lua_State *L, const char *text, size_t size, const char *name) {
    if (size > text_bytes_max) {
        lua_pushliteral(L, "chunk too long");
        return LUA_ERRSYNTAX;
    }
    martlet_lua *lua = martlet_lua_of(L);
    lua_pushstring(L, name);
    text_source source = {text, size, 0};
    int32_t infallible = lua->infallible;
    lua->infallible = 0;
    int status = lua_load(L, read_text, &source, name);
    lua->infallible = infallible;
    lua_remove(L, -2);
    return status;
}

typedef struct {
    size_t total;
    int is_started;
} function_source;

static const char *read_function(lua_State *L, void *context, size_t *size) {
    function_source *source = context;
    if (!source->is_started) {
        source->is_started = 1;
        *size = 1;
        return " ";
    }
    luaL_checkstack(L, 2, "too many nested functions");
    lua_pushvalue(L, 1);
    lua_call(L, 0, 1);
    if (lua_isnil(L, -1)) {
        *size = 0;
        return NULL;
    }
    if (!lua_isstring(L, -1)) luaL_error(L, "reader function must return a string");
    lua_replace(L, 3);
    const char *text = lua_tolstring(L, 3, size);
    source->total += *size;
    if (source->total > text_bytes_max) luaL_error(L, "chunk too long");
    return text;
}

static int loaded(lua_State *L, int status) {
    if (status == 0) return 1;
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
}

static int base_load(lua_State *L) {
    function_source source = {0, 0};
    const char *name = luaL_optstring(L, 2, "=(load)");
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 3);
    lua_pushstring(L, name);
    return loaded(L, lua_load(L, read_function, &source, name));
}

static int base_loadstring(lua_State *L) {
    size_t size;
    const char *text = luaL_checklstring(L, 1, &size);
    return loaded(L, martlet_lua_load(L, text, size, luaL_optstring(L, 2, text)));
}

static int base_collectgarbage(lua_State *L) {
    const char *option = luaL_optstring(L, 1, "collect");
    if (strcmp(option, "collect") != 0 && strcmp(option, "count") != 0 && strcmp(option, "step") != 0) {
        martlet_lua_of(L)->is_collector_changed = 1;
    }
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

/// pcall whose second result is the text of an error that Redis' functions raised, which is a table.
static int base_pcall(lua_State *L) {
    luaL_checkany(L, 1);
    lua_pushboolean(L, 1);
    lua_insert(L, 1);
    if (lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 0) != 0) {
        if (lua_istable(L, -1)) {
            martlet_lua_raw_get_field(L, -1, "err");
            if (lua_isstring(L, -1)) lua_replace(L, -2); else lua_pop(L, 1);
        }
        lua_pushboolean(L, 0);
        lua_insert(L, -2);
        return 2;
    }
    return lua_gettop(L);
}

/// Stands before the handler of an xpcall. When a script is stopped, the error is raised in a hook, in which there are no further
/// hooks: a handler that never returned could not be stopped any more.
static int call_error_handler(lua_State *L) {
    if (martlet_lua_of(L)->is_stopped) return 1;
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, 1, 1);
    return 1;
}

static int base_xpcall(lua_State *L) {
    luaL_checkany(L, 2);
    lua_settop(L, 2);
    if (lua_isfunction(L, 2)) lua_pushcclosure(L, call_error_handler, 1);
    lua_insert(L, 1);
    int status = lua_pcall(L, 0, LUA_MULTRET, 1);
    lua_pushboolean(L, status == 0);
    lua_replace(L, 1);
    return lua_gettop(L);
}

static void wrap(lua_State *L, const char *const *names, lua_CFunction wrapper);

static const luaL_Reg base_functions[] = {
    {"rawset", base_rawset}, {"rawget", base_rawget}, {"next", base_next}, {"setmetatable", base_setmetatable},
    {"getmetatable", base_getmetatable}, {"unpack", base_unpack}, {"load", base_load}, {"loadstring", base_loadstring},
    {"pcall", base_pcall}, {"xpcall", base_xpcall}, {NULL, NULL},
};

/// Of the globals that Lua's libraries make, those that scripts have. (script_lua.c, allow lists)
static const char *const allowed_globals[] = {
    "string", "math", "table", "xpcall", "tostring", "setmetatable", "next", "assert", "tonumber", "rawequal",
    "collectgarbage", "getmetatable", "rawset", "pcall", "coroutine", "type", "_G", "select", "unpack", "gcinfo", "pairs",
    "rawget", "loadstring", "ipairs", "_VERSION", "load", "error", NULL,
};
static const char *const deprecated_globals[] = {"setfenv", "getfenv", "newproxy", NULL};

static int is_listed(const char *name, const char *const *list) {
    for (; *list; list++) {
        if (strcmp(name, *list) == 0) return 1;
    }
    return 0;
}

static void remove_unwanted_globals(lua_State *L, int with_deprecated) {
    lua_pushnil(L);
    while (lua_next(L, LUA_GLOBALSINDEX)) {
        lua_pop(L, 1);
        const char *name = lua_tostring(L, -1);
        if (is_listed(name, allowed_globals) || (with_deprecated && is_listed(name, deprecated_globals))) continue;
        lua_pushvalue(L, -1);
        lua_pushnil(L);
        lua_rawset(L, LUA_GLOBALSINDEX);
    }
}

/// A proxy whose metatable cannot become one with __gc: a finalizer would run, and might raise, wherever memory is asked for.
static int base_newproxy(lua_State *L) {
    lua_settop(L, 1);
    lua_newuserdata(L, 0);
    if (lua_toboolean(L, 1) == 0) return 1;
    if (lua_isboolean(L, 1)) {
        // What a script writes is kept in a table of its own, and has no effect.
        lua_createtable(L, 0, 1);
        lua_createtable(L, 0, 0);
        lua_setfield(L, -2, "__metatable");
    } else if (!lua_isuserdata(L, 1) || !lua_getmetatable(L, 1)) {
        luaL_argerror(L, 1, "boolean or proxy expected");
    }
    lua_setmetatable(L, 2);
    return 1;
}

/// Lua's own functions have the table behind `_G` as their environment.
static int base_getfenv(lua_State *L) {
    lua_tocfunction(L, lua_upvalueindex(1))(L);
    martlet_lua *lua = martlet_lua_of(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->globals);
    if (lua_rawequal(L, -1, -2)) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, lua->shown_globals);
    } else {
        lua_pop(L, 1);
    }
    return 1;
}

/// Level 0 is the environment of scripts to come.
static int base_setfenv(lua_State *L) {
    martlet_lua_of(L)->is_environment_changed = 1;
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

// MARK: - Table library

static const char *const changing_table_functions[] = {"remove", "sort", "setn", NULL};
static const char *const inserting_table_functions[] = {"insert", NULL};
static const char *const walking_table_functions[] = {"foreach", "foreachi", "maxn", "concat", "getn", NULL};

static int table_change(lua_State *L) {
    if (is_protected(L, 1)) return raise_read_only(L);
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

/// So far before the first element Lua's own moves what is not there, one place after the other.
enum { position_min = -1000000 };

static int table_insert(lua_State *L) {
    if (lua_gettop(L) == 3 && (int)lua_tointeger(L, 2) < position_min) {
        return luaL_argerror(L, 2, "position out of bounds");
    }
    return table_change(L);
}

static int table_walk(lua_State *L) {
    if (push_real_table(L, 1)) lua_replace(L, 1);
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

/// Replaces functions of the table on top by one that has them as its upvalue. Called from a function, they see its arguments.
static void wrap(lua_State *L, const char *const *names, lua_CFunction wrapper) {
    for (; *names; names++) {
        lua_getfield(L, -1, *names);
        if (lua_iscfunction(L, -1)) {
            lua_pushcclosure(L, wrapper, 1);
            lua_setfield(L, -2, *names);
        } else {
            lua_pop(L, 1);
        }
    }
}

// MARK: - String library

/// The matcher calls itself for most items of a pattern. Longer ones would need more stack than there is.
enum { pattern_bytes_max = 8192 };
static const char *const matching_string_functions[] = {"match", "gmatch", "gfind", "gsub", NULL};
static const char *const finding_string_functions[] = {"find", NULL};

static int is_too_complex(lua_State *L) {
    size_t size;
    const char *pattern = lua_tolstring(L, 2, &size);
    return pattern && size > pattern_bytes_max && strpbrk(pattern, "^$*+?.([%-") != NULL;
}

static int string_match(lua_State *L) {
    if (is_too_complex(L)) return luaL_error(L, "pattern too complex");
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

/// Its fourth argument asks for the text itself, of any length.
static int string_find(lua_State *L) { return lua_toboolean(L, 4) ? lua_tocfunction(L, lua_upvalueindex(1))(L) : string_match(L); }

/// Lua's own appends byte by byte, and cannot be interrupted.
static int string_rep(lua_State *L) {
    size_t size;
    const char *text = luaL_checklstring(L, 1, &size);
    int count = luaL_checkint(L, 2);
    if (count <= 0 || size == 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    if (size > SIZE_MAX / 4 / (size_t)count) return luaL_error(L, "resulting string too large");
    size_t total = size * (size_t)count;
    char *bytes = lua_newuserdata(L, total);
    memcpy(bytes, text, size);
    for (size_t done = size; done < total;) {
        size_t part = done < total - done ? done : total - done;
        memcpy(bytes + done, bytes, part);
        done += part;
    }
    lua_pushlstring(L, bytes, total);
    martlet_lua *lua = martlet_lua_of(L);
    lua->work += total;
    if (lua->work > work_max) look_at_clock(L);
    return 1;
}

// MARK: - Math library

// The generator is drand48's, so that a seed gives the same numbers everywhere, as Redis' does. (rand.c)
enum { random_bits = 31 };

static uint32_t next_random(martlet_lua *lua) {
    lua->random = (lua->random * UINT64_C(0x5DEECE66D) + 11) & ((UINT64_C(1) << 48) - 1);
    return (uint32_t)(lua->random >> (48 - random_bits));
}

static int math_random(lua_State *L) {
    martlet_lua *lua = martlet_lua_of(L);
    if (!lua->run) return luaL_error(L, "math.random can only be called inside a script invocation");
    double limit = (double)0x7FFFFFFF;
    double number = (double)(next_random(lua) % 0x7FFFFFFF) / limit;
    switch (lua_gettop(L)) {
    case 0: lua_pushnumber(L, number); return 1;
    case 1: {
        int upper = luaL_checkint(L, 1);
        luaL_argcheck(L, 1 <= upper, 1, "interval is empty");
        lua_pushnumber(L, (double)(int64_t)(number * upper) + 1);
        return 1;
    }
    case 2: {
        int lower = luaL_checkint(L, 1), upper = luaL_checkint(L, 2);
        luaL_argcheck(L, lower <= upper, 2, "interval is empty");
        lua_pushnumber(L, (double)((int64_t)(number * ((double)upper - lower + 1)) + lower));
        return 1;
    }
    default: return luaL_error(L, "wrong number of arguments");
    }
}

static int math_randomseed(lua_State *L) {
    martlet_lua *lua = martlet_lua_of(L);
    if (!lua->run) return luaL_error(L, "math.randomseed can only be called inside a script invocation");
    lua->random = (uint64_t)(uint32_t)luaL_checkint(L, 1) << 16 | 0x330E;
    return 0;
}

// MARK: - Errors

/// Makes every error a table with its text, and says where it happened.
static int handle_error(lua_State *L) {
    lua_Debug place;
    int is_known = lua_getstack(L, 1, &place) && lua_getinfo(L, "nSl", &place);
    if (is_known && strcmp(place.what, "C") == 0) {
        is_known = lua_getstack(L, 2, &place) && lua_getinfo(L, "nSl", &place);
    }
    lua_settop(L, 1);
    if (!lua_istable(L, 1)) {
        lua_createtable(L, 0, 3);
        if (lua_tostring(L, 1)) {
            lua_pushliteral(L, "ERR ");
            lua_pushvalue(L, 1);
            lua_concat(L, 2);
        } else if (lua_isnil(L, 1)) {
            lua_pushliteral(L, "ERR nil");
        } else if (lua_isboolean(L, 1)) {
            lua_pushstring(L, lua_toboolean(L, 1) ? "ERR true" : "ERR false");
        } else {
            lua_pushfstring(L, "ERR %s: %p", luaL_typename(L, 1), lua_topointer(L, 1));
        }
        martlet_lua_raw_set_field(L, 2, "err");
        lua_replace(L, 1);
    }
    if (is_known && !is_protected(L, 1)) {
        lua_pushstring(L, place.source);
        martlet_lua_raw_set_field(L, 1, "source");
        lua_pushinteger(L, place.currentline);
        martlet_lua_raw_set_field(L, 1, "line");
    }
    return 1;
}

// MARK: - Long runs

/// An instruction may be a call of something that takes milliseconds, so the clock is looked at often. A look takes as long as
/// some ten instructions.
enum { hook_instructions = 1000 };

static void hook(lua_State *L, lua_Debug *event) {
    (void)event;
    look_at_clock(L);
}

static void look_at_clock(lua_State *L) {
    martlet_lua *lua = martlet_lua_of(L);
    lua->work = 0;
    if (!lua->interrupt) return;
    int32_t verdict = lua->interrupt(lua);
    while (verdict == MARTLET_LUA_LEAVE) {
        martlet_fiber_leave(lua->fiber);
        verdict = lua->interrupt(lua);
    }
    if (verdict == MARTLET_LUA_CONTINUE) return;
    lua->is_stopped = 1;
    lua_sethook(L, hook, LUA_MASKLINE, 0);
    lua_createtable(L, 0, 3);
    lua_pushstring(L, lua->interrupt_message);
    martlet_lua_raw_set_field(L, -2, "err");
    lua_error(L);
}

int32_t martlet_lua_call(martlet_lua *lua, int32_t arguments, int32_t results, int32_t handler) {
    int32_t infallible = lua->infallible;
    lua->infallible = 0;
    int status = lua_pcall(lua->state, arguments, results, handler);
    lua->infallible = infallible;
    return status;
}

void martlet_lua_restore(martlet_lua *lua) {
    if (lua->is_stopped) {
        lua->is_stopped = 0;
        lua_sethook(lua->state, hook, LUA_MASKCOUNT, hook_instructions);
    }
    if (lua->is_environment_changed) {
        lua->is_environment_changed = 0;
        lua_rawgeti(lua->state, LUA_REGISTRYINDEX, lua->shown_globals);
        lua_replace(lua->state, LUA_GLOBALSINDEX);
    }
    if (lua->is_collector_changed) {
        lua->is_collector_changed = 0;
        lua_gc(lua->state, LUA_GCSETPAUSE, LUAI_GCPAUSE);
        lua_gc(lua->state, LUA_GCSETSTEPMUL, LUAI_GCMUL);
        lua_gc(lua->state, LUA_GCRESTART, 0);
    }
}

// MARK: - A state

static int set_up(lua_State *L) {
    martlet_lua *lua = martlet_lua_of(L);
    int with_deprecated = lua_toboolean(L, 1);
    lua_pushlightuserdata(L, (void *)&visited_marker);
    lua_createtable(L, 0, 0);
    lua_rawset(L, LUA_REGISTRYINDEX);
    martlet_lua_open(L, "", luaopen_base);
    martlet_lua_open(L, LUA_TABLIBNAME, luaopen_table);
    martlet_lua_open(L, LUA_STRLIBNAME, luaopen_string);
    martlet_lua_open(L, LUA_MATHLIBNAME, luaopen_math);
    remove_unwanted_globals(L, with_deprecated);

    lua_pushvalue(L, LUA_GLOBALSINDEX);
    luaL_register(L, NULL, base_functions);
    lua_getfield(L, -1, "next");
    lua_pushcclosure(L, base_pairs, 1);
    lua_setfield(L, -2, "pairs");
    static const char *const collect[] = {"collectgarbage", NULL};
    wrap(L, collect, base_collectgarbage);
    if (with_deprecated) {
        static const char *const get[] = {"getfenv", NULL}, *const set[] = {"setfenv", NULL};
        wrap(L, get, base_getfenv);
        wrap(L, set, base_setfenv);
        lua_pushcfunction(L, base_newproxy);
        lua_setfield(L, -2, "newproxy");
    }
    lua_getfield(L, -1, LUA_TABLIBNAME);
    wrap(L, changing_table_functions, table_change);
    wrap(L, inserting_table_functions, table_insert);
    wrap(L, walking_table_functions, table_walk);
    lua_pop(L, 1);
    lua_getfield(L, -1, LUA_STRLIBNAME);
    wrap(L, matching_string_functions, string_match);
    wrap(L, finding_string_functions, string_find);
    lua_pushcfunction(L, string_rep);
    lua_setfield(L, -2, "rep");
    lua_pop(L, 1);
    lua_getfield(L, -1, LUA_MATHLIBNAME);
    lua_pushcfunction(L, math_random);
    lua_setfield(L, -2, "random");
    lua_pushcfunction(L, math_randomseed);
    lua_setfield(L, -2, "randomseed");
    lua_pop(L, 2);

    lua_pushcfunction(L, handle_error);
    lua->error_handler = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

martlet_lua *martlet_lua_create(size_t bytes_max, int32_t with_deprecated) {
    martlet_lua *lua = calloc(1, sizeof(martlet_lua));
    if (!lua) return NULL;
    lua->bytes_max = bytes_max;
    lua->infallible = 1;
    lua->state = lua_newstate(allocate, lua);
    if (!lua->state) {
        free(lua);
        return NULL;
    }
    lua_pushcfunction(lua->state, set_up);
    lua_pushboolean(lua->state, with_deprecated);
    if (lua_pcall(lua->state, 1, 0, 0) != 0) {
        martlet_lua_destroy(lua);
        return NULL;
    }
    lua_sethook(lua->state, hook, LUA_MASKCOUNT, hook_instructions);
    lua->infallible = 0;
    return lua;
}

void martlet_lua_destroy(martlet_lua *lua) {
    lua_close(lua->state);
    free(lua);
}
