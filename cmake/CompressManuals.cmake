# Run by cpack on what it is about to pack: Debian wants manual pages compressed, without times in them.
file(GLOB_RECURSE pages ${CPACK_TEMPORARY_DIRECTORY}/usr/share/man/*.1 ${CPACK_TEMPORARY_DIRECTORY}/usr/share/man/*.8)
foreach(page ${pages})
  execute_process(COMMAND gzip -9n ${page} COMMAND_ERROR_IS_FATAL ANY)
endforeach()
