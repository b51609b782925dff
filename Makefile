# aha: make builds ./aha and libaha; make test runs the everyday tests; make help lists the rest.
# Sources and tests are found by wildcard: adding a file edits no list.

CC      ?= gcc
BUILD   ?= build
PROGRAM ?= aha
LIBPKGS := jansson libpcre2-8 libutf8proc
CLIPKGS := libedit libcurl libcrypto
# src/serve is the program's own: a library that embeds a model needs neither HTTP nor a database
SERVEPKGS := libmicrohttpd gnutls sqlite3 libcrypto
PKGS    := $(LIBPKGS) $(CLIPKGS) $(SERVEPKGS)

OPT      ?= -O2 -g
WARN     := -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wvla
CFLAGS   ?=
ifdef CI
WARN     += -Werror
endif
# -ffp-contract=off: the references round every operation; kernels ask for fused multiply-adds by name.
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE $(OPT) $(WARN) -ffp-contract=off -fvisibility=hidden -fPIC -pthread -Iinclude \
             $(shell pkg-config --cflags $(PKGS)) $(CFLAGS)
LIBS     := $(shell pkg-config --libs $(LIBPKGS)) -lm -pthread
CLI_LIBS := $(shell pkg-config --libs $(CLIPKGS))
SERVE_LIBS := $(shell pkg-config --libs $(SERVEPKGS))

ARCH := $(shell $(CC) -dumpmachine | cut -d- -f1)
# a cross compiler brings its own
AR      := $(shell $(CC) -print-prog-name=ar)
LD      := $(shell $(CC) -print-prog-name=ld)
OBJCOPY := $(shell $(CC) -print-prog-name=objcopy)
# where the kernels of a processor's family are; others have the plain ones
ISA_ROOM_x86_64  := src/cpu/x86
ISA_ROOM_aarch64 := src/cpu/arm
LIB_ROOMS := base tensor cpu format model text infer learn judge
LIB_SRC := $(foreach r,$(LIB_ROOMS),$(wildcard src/$(r)/*.c))
LIB_SRC += $(wildcard $(ISA_ROOM_$(ARCH):%=%/*.c))
CLI_SRC := $(wildcard src/cli/*.c)
SERVE_SRC := $(wildcard src/serve/*.c)
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/%.o)
CLI_OBJ := $(CLI_SRC:%.c=$(BUILD)/%.o)
SERVE_OBJ := $(SERVE_SRC:%.c=$(BUILD)/%.o)

# aha-tiny, carried inside the program (src/cli/builtin.S includes the folder's files)
BUILTIN_DIR := models/aha-tiny
ifneq ($(wildcard $(BUILTIN_DIR)/model.safetensors),)
BUILTIN_OBJ := $(BUILD)/src/cli/builtin.o
endif

# The chat page (web/) and its libraries, carried inside the program; left out, with words, where Debian's packages are absent
PAGE_DIR := $(BUILD)/page-$(shell tools/page-embed --check && echo with || echo without)-libraries
SERVE_OBJ += $(PAGE_DIR)/table.o $(PAGE_DIR)/data.o

TESTS := $(patsubst tests/test_%.c,%,$(wildcard tests/test_*.c))
TEST_BIN := $(TESTS:%=$(BUILD)/tests/test_%)
FUZZ := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))

.PHONY: all lib kernels test check lint install uninstall man clean help fuzz-replay bench
all: $(PROGRAM)

$(PROGRAM): $(CLI_OBJ) $(BUILTIN_OBJ) $(BUILD)/libserve.a $(BUILD)/libaha.a
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS) $(CLI_LIBS) $(SERVE_LIBS)

lib: $(BUILD)/libaha.a $(BUILD)/libaha.so
$(BUILD)/libaha.a: $(LIB_OBJ)
	@rm -f $@
	$(AR) rcs $@ $^
$(BUILD)/libserve.a: $(SERVE_OBJ)
	@rm -f $@
	$(AR) rcs $@ $^
$(BUILD)/libaha.so: $(LIB_OBJ)
	$(CC) -shared -Wl,-soname,$(SONAME) $(LDFLAGS) -o $@ $^ $(LIBS)

# Each ISA's files are compiled with its own flags, so that one binary runs on every processor of the family.  ISA_CFLAGS: more for all of them
$(BUILD)/src/cpu/x86/avx2_%.o: ISA_FLAGS := -mavx2 -mfma -mf16c
$(BUILD)/src/cpu/x86/avxvnni_%.o: ISA_FLAGS := -mavx2 -mavxvnni -mfma -mf16c
AVX512 := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mf16c -mprefer-vector-width=512
$(BUILD)/src/cpu/x86/avx512_%.o: ISA_FLAGS := $(AVX512)
$(BUILD)/src/cpu/x86/avx512vnni_%.o: ISA_FLAGS := $(AVX512) -mavx512vnni
$(BUILD)/src/cpu/x86/avx512vbmi_%.o: ISA_FLAGS := $(AVX512) -mavx512vnni -mavx512vbmi
$(BUILD)/src/cpu/arm/dotprod_%.o: ISA_FLAGS := -march=armv8.2-a+dotprod
$(BUILD)/src/cpu/arm/i8mm_%.o: ISA_FLAGS := -march=armv8.2-a+dotprod+i8mm
$(ISA_ROOM_$(ARCH):%=$(BUILD)/%/%.o): ALL_CFLAGS += $(ISA_CFLAGS)
kernels: $(filter $(ISA_ROOM_$(ARCH):%=$(BUILD)/%/%),$(LIB_OBJ))
$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(ISA_FLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/src/cli/builtin.o: src/cli/builtin.S $(wildcard $(BUILTIN_DIR)/*)
	@mkdir -p $(@D)
	$(CC) -c -DBUILTIN_DIR=$(BUILTIN_DIR) -o $@ $<
$(PAGE_DIR)/table.c: tools/page-embed $(wildcard web/*)
	@tools/page-embed $(PAGE_DIR)
$(PAGE_DIR)/table.o: $(PAGE_DIR)/table.c src/serve/serve.h
	$(CC) $(ALL_CFLAGS) -Isrc -c -o $@ $<
$(PAGE_DIR)/data.o: $(PAGE_DIR)/table.c
	$(CC) -c -o $@ $(PAGE_DIR)/data.S
ifdef BUILTIN_OBJ
$(BUILD)/src/cli/model_open.o: ALL_CFLAGS += -DAHA_BUILTIN
$(BUILD)/src/cli/model_open.o: $(BUILTIN_DIR)/model.safetensors
endif

# The double-precision build of the rooms that hold mathematics, for finite differences.
REAL_SRC := $(foreach r,base tensor,$(wildcard src/$(r)/*.c)) $(wildcard src/cpu/*.c) $(wildcard src/model/*.c)
REAL_OBJ := $(REAL_SRC:%.c=$(BUILD)/double/%.o)
$(BUILD)/double/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -DAHA_REAL_DOUBLE -MMD -MP -c -o $@ $<

# A test that names a header of src/serve itself is linked with it.
SERVE_TESTS := $(shell grep -l '"serve/' tests/test_*.c)
$(SERVE_TESTS:%.c=$(BUILD)/%): $(BUILD)/libserve.a
$(SERVE_TESTS:%.c=$(BUILD)/%): TEST_LIBS := $(SERVE_LIBS)
$(BUILD)/tests/%: tests/%.c $(BUILD)/libaha.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -Isrc -Itests -MMD -MP -o $@ $< $(filter %/libserve.a,$^) $(BUILD)/libaha.a $(TEST_LIBS) $(LIBS) $$(pkg-config --libs cmocka)
# finite differences run in double: the only tests that link the other build (format knows no `real`)
GRAD_BIN := $(filter $(BUILD)/tests/test_grad%,$(TEST_BIN))
FORMAT_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(wildcard src/format/*.c))
$(GRAD_BIN): $(BUILD)/tests/%: tests/%.c $(REAL_OBJ) $(FORMAT_OBJ)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -DAHA_REAL_DOUBLE -Isrc -Itests -MMD -MP -o $@ $(filter %.c %.o,$^) $(LIBS) $$(pkg-config --libs cmocka)
SERVE_FUZZ := $(shell grep -l '"serve/' tests/fuzz/fuzz_*.c)
$(SERVE_FUZZ:tests/fuzz/fuzz_%.c=$(BUILD)/fuzz/%): $(BUILD)/libserve.a
$(SERVE_FUZZ:tests/fuzz/fuzz_%.c=$(BUILD)/fuzz/%): TEST_LIBS := $(SERVE_LIBS)
$(BUILD)/fuzz/%: tests/fuzz/fuzz_%.c tests/fuzz/replay.c $(BUILD)/libaha.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -Isrc -o $@ $(filter %.c,$^) $(filter %/libserve.a,$^) $(BUILD)/libaha.a $(TEST_LIBS) $(LIBS)
$(BUILD)/bench/%: bench/%.c $(BUILD)/libaha.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -Isrc -o $@ $< $(BUILD)/libaha.a $(LIBS) -ldl

test: all $(TEST_BIN) $(BUILD)/bench/load_serve
	@BUILD=$(BUILD) tools/run-tests $(TESTS)
test-%: $(BUILD)/tests/test_%
	$<
test-cli test-cli_talk: $(PROGRAM)
fuzz-replay: $(FUZZ:%=$(BUILD)/fuzz/%)
	@for f in $(FUZZ); do $(BUILD)/fuzz/$$f tests/fuzz/corpus/$$f/* || exit 1; done

lint:
	tools/lint
bench: $(patsubst bench/%.c,$(BUILD)/bench/%,$(wildcard bench/*.c))

# ---- installing ---- PREFIX, DESTDIR and each folder may be given
PREFIX     ?= /usr/local
BINDIR     ?= $(PREFIX)/bin
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR     ?= $(PREFIX)/share/man
DOCDIR     ?= $(PREFIX)/share/doc/aha
UNITDIR    ?= $(PREFIX)/lib/systemd/system
VERSION    := $(shell sed -n 's/^.define AHA_VERSION "\(.*\)"/\1/p' include/aha.h)
SONAME     := libaha.so.0
READY      := $(BUILD)/install

man: $(READY)/man/aha.1
$(READY)/man/aha.1: $(PROGRAM) tools/man-pages
	@rm -rf $(@D)
	tools/man-pages ./$(PROGRAM) $(@D)
# one object in which only what aha.h declares has a name, so that a program's own names meet none of ours
$(READY)/libaha.a: $(LIB_OBJ)
	@mkdir -p $(@D)
	@rm -f $@
	$(LD) -r -o $(READY)/libaha.o $^
	$(OBJCOPY) --localize-hidden $(READY)/libaha.o
	$(AR) rcs $@ $(READY)/libaha.o
FILL := sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@BINDIR@|$(BINDIR)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' -e 's|@VERSION@|$(VERSION)|'
install: $(PROGRAM) $(BUILD)/libaha.so $(READY)/libaha.a man
	install -d $(foreach d,$(BINDIR) $(LIBDIR)/pkgconfig $(INCLUDEDIR) $(MANDIR)/man1 $(DOCDIR) $(UNITDIR),"$(DESTDIR)$(d)")
	install -m 755 $(PROGRAM) "$(DESTDIR)$(BINDIR)/aha"
	install -m 644 $(BUILD)/libaha.so "$(DESTDIR)$(LIBDIR)/libaha.so.$(VERSION)"
	ln -sf libaha.so.$(VERSION) "$(DESTDIR)$(LIBDIR)/$(SONAME)"
	ln -sf $(SONAME) "$(DESTDIR)$(LIBDIR)/libaha.so"
	install -m 644 $(READY)/libaha.a "$(DESTDIR)$(LIBDIR)/libaha.a"
	install -m 644 include/aha.h "$(DESTDIR)$(INCLUDEDIR)/aha.h"
	install -m 644 $(READY)/man/*.1 "$(DESTDIR)$(MANDIR)/man1"
	install -m 644 LICENSE "$(DESTDIR)$(DOCDIR)/LICENSE"
	sed -n '/^ \* MIT License/,/^ \*\//s/^ \*[ /]\{0,1\}//p' src/tensor/quant_grids.h > "$(DESTDIR)$(DOCDIR)/LICENSE.gguf"
	$(FILL) tools/aha.pc.in > "$(DESTDIR)$(LIBDIR)/pkgconfig/aha.pc"
	$(FILL) tools/aha.service.in > "$(DESTDIR)$(UNITDIR)/aha.service"
	chmod 644 "$(DESTDIR)$(LIBDIR)/pkgconfig/aha.pc" "$(DESTDIR)$(UNITDIR)/aha.service" "$(DESTDIR)$(DOCDIR)/LICENSE.gguf"
uninstall:
	rm -f "$(DESTDIR)$(BINDIR)/aha" "$(DESTDIR)$(LIBDIR)/libaha.a" "$(DESTDIR)$(LIBDIR)/libaha.so" "$(DESTDIR)$(LIBDIR)"/libaha.so.0* \
	      "$(DESTDIR)$(INCLUDEDIR)/aha.h" "$(DESTDIR)$(MANDIR)/man1/aha.1" "$(DESTDIR)$(MANDIR)/man1"/aha-*.1 \
	      "$(DESTDIR)$(LIBDIR)/pkgconfig/aha.pc" "$(DESTDIR)$(UNITDIR)/aha.service" "$(DESTDIR)$(DOCDIR)"/LICENSE*
	-rmdir "$(DESTDIR)$(DOCDIR)" 2>/dev/null

clean:
	rm -rf $(BUILD) build-* $(PROGRAM)
help:
	@echo "make            ./aha"
	@echo "make lib        build/libaha.a and build/libaha.so"
	@echo "make test       the everyday tests (test-NAME: one of them)"
	@echo "make lint       direction of dependencies, forbidden calls, sizes"
	@echo "make bench      build/bench/*: kernels and training beside their peers"
	@echo "make install    program, library, manual pages, systemd unit under PREFIX (/usr/local); DESTDIR; make uninstall"
	@echo "make clean      removes what was built"

-include $(LIB_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(SERVE_OBJ:.o=.d) $(TEST_BIN:=.d) $(REAL_OBJ:.o=.d)
