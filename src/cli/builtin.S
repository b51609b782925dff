/* The files of aha-tiny, carried inside the program.  The Makefile says where they lie (BUILTIN_DIR). */
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

    .section .rodata
    .macro carry name, file
    .balign 64
    .global aha_builtin_\name
    .hidden aha_builtin_\name
    .type aha_builtin_\name, %object
aha_builtin_\name:
    .incbin "\file"
    .size aha_builtin_\name, . - aha_builtin_\name
    .global aha_builtin_\name\()_end
    .hidden aha_builtin_\name\()_end
aha_builtin_\name\()_end:
    .byte 0
    .endm

    carry config, TEXT(BUILTIN_DIR/config.json)
    carry weights, TEXT(BUILTIN_DIR/model.safetensors)
    carry tokenizer, TEXT(BUILTIN_DIR/tokenizer.json)
    carry tokenizer_config, TEXT(BUILTIN_DIR/tokenizer_config.json)

    .section .note.GNU-stack, "", %progbits
