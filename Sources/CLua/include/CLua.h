// Debian's Lua 5.1, and what a server needs around it: a second stack that a script can be left on, a state whose memory is
// counted and limited, tables that scripts cannot change, and a way for Lua to call Swift.
//
// Why there is C at all: Lua raises errors by longjmp, which must not pass a Swift frame. So whatever may raise is C; a Swift
// function that Lua calls returns a negative number instead, and the trampoline here raises for it. While Swift is on the
// stack, Lua's allocator does not fail, so no other call of its API can raise there, as long as it is a raw one.
#pragma once

#include <lua5.1/lua.h>
#include <lua5.1/lauxlib.h>
#include <lua5.1/lualib.h>
#include <stddef.h>
#include <stdint.h>

// MARK: A second stack

typedef struct martlet_fiber martlet_fiber;

/// Maps a stack with a page below it that cannot be touched. NULL if there is no memory.
martlet_fiber *martlet_fiber_create(size_t stack_bytes);
void martlet_fiber_destroy(martlet_fiber *fiber);
/// Calls `entry` on the stack. Returns 1 when it has returned, 0 when it was left. Costs no system call.
int32_t martlet_fiber_start(martlet_fiber *fiber, void (*entry)(void *), void *argument);
/// Goes on behind `martlet_fiber_leave`. Returns as `martlet_fiber_start` does.
int32_t martlet_fiber_resume(martlet_fiber *fiber);
/// Called on the stack: goes back to who started or resumed it.
void martlet_fiber_leave(martlet_fiber *fiber);

// MARK: Numbers as text

/// printf's `%.*g`, which Swift has no counterpart of. Returns the length.
int32_t martlet_format_number(char *text, size_t size, int32_t digits, double number);
/// strtod, which takes more than decimal numbers. The length is 0 if there is none.
double martlet_parse_number(const char *text, size_t *length);

// MARK: A Lua state

typedef struct martlet_lua martlet_lua;

/// What to do with a script that has run for a while.
enum {
    MARTLET_LUA_CONTINUE = 0,
    /// Leave the stack; asked again when it is resumed.
    MARTLET_LUA_LEAVE = 1,
    /// Raise the error `interrupt_message`, and again at every line, so that no pcall can keep the script alive.
    MARTLET_LUA_STOP = 2,
};

struct martlet_lua {
    lua_State *state;
    /// Allocated now, and at most while `infallible` is 0.
    size_t bytes;
    size_t bytes_max;
    /// Swift frames are on the stack: the allocator ends the process rather than fail.
    int32_t infallible;
    /// The script changed how garbage is collected, or what new functions take for `_G`.
    int32_t is_collector_changed;
    int32_t is_environment_changed;
    /// The line hook of a stopped script is set.
    int32_t is_stopped;
    /// Registry references: the table behind `_G`, `_G` itself, and the function that adds line numbers to errors.
    int32_t globals;
    int32_t shown_globals;
    int32_t error_handler;
    martlet_fiber *fiber;
    /// Bytes that functions have read or written since it was asked last.
    size_t work;
    /// Asked about every 1,000 instructions, and after a function that had much to do.
    int32_t (*interrupt)(martlet_lua *);
    const char *interrupt_message;
    /// Of the owner; nil while no script runs.
    void *run;
    /// Of the owner; nil while no library of functions is loaded, or one that may take its time.
    void *deadline;
    /// State of the generator behind math.random.
    uint64_t random;
};

/// Called from Lua through a trampoline. Returns how many results are on top of the stack, or a negative number to raise the
/// value on top as an error. Must not call what may raise for other reasons than memory, and not what runs Lua code.
typedef int32_t (*martlet_lua_function)(lua_State *);

/// A state with Lua's base, table, string and math libraries, cut to what a sandbox may have. Its global table is still open:
/// add to it, then call `martlet_lua_protect_globals`. NULL if there is no memory.
/// - with_deprecated: setfenv, getfenv and newproxy, too.
martlet_lua *martlet_lua_create(size_t bytes_max, int32_t with_deprecated);
void martlet_lua_destroy(martlet_lua *lua);
/// The state that a thread of it (a coroutine) belongs to.
martlet_lua *martlet_lua_of(lua_State *L);

/// Pushes a Lua function that calls a Swift one.
void martlet_lua_push_function(lua_State *L, martlet_lua_function function);
/// The same with upvalues: so many values from the top of the stack become its second and following ones.
void martlet_lua_push_closure(lua_State *L, martlet_lua_function function, int32_t upvalues);
/// The function as a field of the table on top.
void martlet_lua_set_function(lua_State *L, const char *name, martlet_lua_function function);
void martlet_lua_set_number(lua_State *L, const char *name, double number);
void martlet_lua_set_string(lua_State *L, const char *name, const char *text);
/// Sets or gets a field of the table at `index`, without metamethods. Getting pushes the value and returns its type.
void martlet_lua_raw_set_field(lua_State *L, int32_t index, const char *name);
int32_t martlet_lua_raw_get_field(lua_State *L, int32_t index, const char *name);
/// Calls one of Lua's own `luaopen_` functions, or a library written like them.
void martlet_lua_open(lua_State *L, const char *name, lua_CFunction open);

/// Replaces the table on top by one that shows the same and cannot be changed; so are the tables in it, and its metatable.
void martlet_lua_protect(lua_State *L);
/// Replaces a protected table on top by the real one, to be read only and not to be handed out.
void martlet_lua_reveal(lua_State *L);
/// Sets a metatable on the table on top that raises an error for fields that are not there.
void martlet_lua_refuse_missing(lua_State *L);
/// Puts a protected table in place of the global one, and protects the metatables of basic types.
void martlet_lua_protect_globals(martlet_lua *lua);

/// Compiles text, never bytecode. The function, or what is wrong with the text, is on top afterwards.
/// - name: as error messages show it, with Lua's leading `@` or `=`.
int32_t martlet_lua_load(lua_State *L, const char *text, size_t size, const char *name);
/// lua_pcall from Swift: in the call memory is limited again.
int32_t martlet_lua_call(martlet_lua *lua, int32_t arguments, int32_t results, int32_t handler);
/// Undoes what a script did to the collector and to the hook.
void martlet_lua_restore(martlet_lua *lua);
