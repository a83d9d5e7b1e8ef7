# What others find libsluice by: pkg-config, and find_package(sluice).
include(CMakePackageConfigHelpers)
set(pkgconfig_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/sluice)

# Relative to the file itself, so that an installed tree can be moved.
set(pc_prefix ${CMAKE_INSTALL_PREFIX})
set(pc_libdir ${CMAKE_INSTALL_FULL_LIBDIR})
set(pc_includedir ${CMAKE_INSTALL_FULL_INCLUDEDIR})
if(NOT IS_ABSOLUTE ${CMAKE_INSTALL_LIBDIR} AND NOT IS_ABSOLUTE ${CMAKE_INSTALL_INCLUDEDIR})
	file(RELATIVE_PATH up /${pkgconfig_dir} /)
	string(REGEX REPLACE "/$" "" up ${up})
	set(pc_prefix "\${pcfiledir}/${up}")
	set(pc_libdir "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
	set(pc_includedir "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
configure_file(sluice.pc.in sluice.pc @ONLY)

configure_package_config_file(sluice-config.cmake.in sluice-config.cmake
	INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(sluice-config-version.cmake COMPATIBILITY SameMajorVersion)

install(FILES ${CMAKE_CURRENT_BINARY_DIR}/sluice.pc
	DESTINATION ${pkgconfig_dir} COMPONENT libsluice)
install(EXPORT sluice NAMESPACE sluice:: FILE sluice-targets.cmake
	DESTINATION ${package_dir} COMPONENT libsluice)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/sluice-config.cmake
	${CMAKE_CURRENT_BINARY_DIR}/sluice-config-version.cmake
	DESTINATION ${package_dir} COMPONENT libsluice)
